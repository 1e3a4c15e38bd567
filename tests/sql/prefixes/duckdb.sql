SELECT name, median(age) FROM singer GROUP BY ALL ORDER BY ALL
SELECT * EXCLUDE (age) FROM singer QUALIFY row_number() OVER (PARTITION BY country ORDER BY age) = 1
SELECT list_filter([1, 2], x -> x > 1), {'a': 1}['a'] FROM singer
SELECT name FROM singer SEMI JOIN concert ON singer.id = concert.singer_id
SELECT * FROM 'file.csv'
SELECT "name" FROM singer WHERE name SIMILAR TO 'a.*' AND age BETWEEN 1 AND 3
SELECT list_transform(['a'], x -> upper(x)), list_transform([1], lambda x: x + 1) FROM singer
SELECT [x + 1 for x in [1, 2]] FROM singer
SELECT {a: 1}.a, struct_pack(a := 1), name.upper() FROM singer
SELECT a: 42, name[:3], name[2:] FROM singer ORDER BY a
SELECT name, rank() OVER w AS r FROM singer WINDOW w AS (ORDER BY age) QUALIFY r = 1
SELECT name FROM singer USING SAMPLE 10%
SELECT title AS t FROM concert UNION ALL BY NAME SELECT name AS n FROM singer ORDER BY n
SELECT name, FROM singer WHERE age IN (1, 2,)
SELECT range FROM range(3)
SELECT name FROM singer WHERE birth > current_date - INTERVAL 10 YEAR
FROM singer SELECT name
SELECT name FROM (FROM singer)
PIVOT concert ON year USING count(*)
SELECT map {'a': 1}['a'], NULL::MAP(VARCHAR, INT), CAST({'a': 1} AS STRUCT(a INT)) FROM singer
SELECT name FROM singer LIMIT 10%
SELECT COLUMNS(*) FROM venue UNION SELECT id, city, interval FROM venue UNION SELECT * EXCLUDE (id), 3 FROM venue
SELECT name FROM singer WHERE EXISTS (FROM concert WHERE singer_id = singer.id) ORDER BY #1
FROM singer PIVOT (sum(age) FOR country IN ('a', 'b') GROUP BY name)
SELECT * FROM singer AS s PIVOT (sum(age) FOR country IN ('a', 'b') GROUP BY name)
