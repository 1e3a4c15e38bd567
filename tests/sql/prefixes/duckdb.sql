SELECT name, median(age) FROM singer GROUP BY ALL ORDER BY ALL
SELECT * EXCLUDE (age) FROM singer QUALIFY row_number() OVER (PARTITION BY country ORDER BY age) = 1
SELECT list_filter([1, 2], x -> x > 1), {'a': 1}['a'] FROM singer
SELECT name FROM singer SEMI JOIN concert ON singer.id = concert.singer_id
SELECT * FROM 'file.csv'
SELECT "name" FROM singer WHERE name SIMILAR TO 'a.*' AND age BETWEEN 1 AND 3
SELECT name FROM singer ORDER BY age OFFSET 2 LIMIT 5
SELECT country, SUM(age) FROM singer GROUP BY ROLLUP (country)
SELECT country, name, SUM(age) FROM singer GROUP BY GROUPING SETS ((country), (name), ())
SELECT UPPER (name) FROM singer WHERE age IS NOT DISTINCT FROM 30 ORDER BY LOWER (name)
SELECT name FROM singer ORDER BY age OFFSET 2 ROWS FETCH NEXT 5 ROWS ONLY
