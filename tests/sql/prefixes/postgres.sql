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
