SELECT name::text, age::numeric(10, 2) FROM singer WHERE name ILIKE 'a%' AND date_part('year', now()) > 3
SELECT DISTINCT ON (country) country, name FROM singer ORDER BY country, age DESC NULLS LAST
SELECT extract(year FROM date '2020-01-01'), interval '1 day' FROM concert
SELECT s.name, x.n FROM singer s CROSS JOIN LATERAL (SELECT count(*) AS n FROM concert c WHERE c.singer_id = s.id) x
SELECT string_agg(name, ', ' ORDER BY name) FROM singer FETCH FIRST 3 ROWS ONLY
SELECT table_name FROM information_schema.tables
SELECT g FROM generate_series(1, 3) AS g
SELECT array_agg(id)[1] FROM singer WHERE id = ANY (ARRAY[1, 2]) AND name ~ '^a'
SELECT percentile_cont(0.5) WITHIN GROUP (ORDER BY age) FROM singer
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
SELECT country, count(*) FROM singer GROUP BY country ORDER BY count DESC
SELECT avg(count) FROM (SELECT country, count(*) FROM singer GROUP BY country) t
SELECT avg(age) FROM (SELECT age::numeric FROM singer) t
SELECT t.x FROM unnest(ARRAY[1, 2]) WITH ORDINALITY AS t(x, i)
SELECT x FROM json_to_recordset('[]') AS (x int, y text)
SELECT name FROM singer WHERE birth > now() - make_interval(days => 30)
SELECT (r).name, pg_catalog.lower(r.name), r.address.city, address.city FROM (SELECT name, name AS address FROM singer) r
SELECT user, current_schema FROM singer
SELECT trim(both from name) FROM ONLY singer FOR UPDATE
SELECT B'01', $$x$$ FROM singer WHERE name = $a$x$a$
SELECT name FROM singer LIMIT ALL OFFSET 3
