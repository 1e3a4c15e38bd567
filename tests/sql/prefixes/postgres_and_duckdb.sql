SELECT name FROM singer ORDER BY age OFFSET 2 LIMIT 5
SELECT country, SUM(age) FROM singer GROUP BY ROLLUP (country)
SELECT country, name, SUM(age) FROM singer GROUP BY GROUPING SETS ((country), (name), ())
SELECT UPPER (name) FROM singer WHERE age IS NOT DISTINCT FROM 30 ORDER BY LOWER (name)
SELECT name FROM singer ORDER BY age OFFSET 2 ROWS FETCH NEXT 5 ROWS ONLY
SELECT name FROM singer WHERE birth > DATE '2000-01-01' AND birth < CURRENT_DATE - INTERVAL '1 year'
SELECT EXTRACT(YEAR FROM birth) AS y, EXTRACT(isodow FROM birth), EXTRACT(century FROM birth) FROM singer
SELECT date_trunc('month', birth) AS month, count(*) FROM singer GROUP BY month ORDER BY month
SELECT date_trunc('day', birth) AS day, count(*) FROM singer GROUP BY 1 ORDER BY day DESC
SELECT day, n FROM (SELECT date_trunc('day', birth) AS day, count(*) AS n FROM singer GROUP BY 1) t
WITH RECURSIVE days(day) AS (SELECT birth FROM singer UNION ALL SELECT day FROM days) SELECT day FROM days
WITH current AS (SELECT name FROM singer) SELECT name FROM current
SELECT TIMESTAMP WITH TIME ZONE '2000-01-01', CAST(birth AS TIMESTAMP WITH TIME ZONE) FROM singer
SELECT s.id FROM singer s JOIN venue v ON s.id = v.id ORDER BY id
SELECT title FROM singer JOIN concert ON id = singer_id JOIN venue ON cid = venue.id
SELECT a FROM (SELECT id, name FROM singer) AS t(a, b)
SELECT s.a FROM singer AS s(a, b, c) WHERE s.b = 'x'
SELECT to_json(s), count(s) FROM singer s
SELECT (ARRAY[1, 2, 3])[2:], (ARRAY[1, 2, 3])[:2] FROM singer
SELECT name FROM ((SELECT name FROM singer) UNION (SELECT title FROM concert)) t WHERE name = 'a'
SELECT name FROM singer, LATERAL (SELECT title FROM concert WHERE singer_id = singer.id) x
SELECT singer.name FROM singer TABLESAMPLE SYSTEM (10)
SELECT EXTRACT(day FROM (birth - DATE '2000-01-01')) FROM singer WHERE age IS DISTINCT FROM (3 + 1) AND name = 'a'
SELECT name FROM singer WHERE age > (SELECT max(id) FROM venue GROUP BY age, singer.id ORDER BY singer.age)
SELECT JSON '{"a": 1}', uuid '00000000-0000-0000-0000-000000000000' AS u FROM singer WHERE birth > TIMESTAMPTZ '2020-01-01' AND age = int4 '3'
SELECT name FROM singer JOIN concert ON singer_id = CAST((id) AS INT)
