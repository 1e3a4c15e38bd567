SELECT name::text, age::numeric(10, 2) FROM singer WHERE name ILIKE 'a%' AND date_part('year', now()) > 3
SELECT DISTINCT ON (country) country, name FROM singer ORDER BY country, age DESC NULLS LAST
SELECT extract(year FROM date '2020-01-01'), interval '1 day' FROM concert
SELECT s.name, x.n FROM singer s CROSS JOIN LATERAL (SELECT count(*) AS n FROM concert c WHERE c.singer_id = s.id) x
SELECT string_agg(name, ', ' ORDER BY name) FROM singer FETCH FIRST 3 ROWS ONLY
SELECT table_name FROM information_schema.tables
SELECT g FROM generate_series(1, 3) AS g
SELECT array_agg(id)[1] FROM singer WHERE id = ANY (ARRAY[1, 2]) AND name ~ '^a'
SELECT percentile_cont(0.5) WITHIN GROUP (ORDER BY age) FROM singer
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
SELECT name FROM singer WHERE EXISTS (SELECT FROM concert WHERE singer_id = singer.id)
SELECT b.id FROM singer JOIN venue USING (id) AS b WHERE |/ age > @ age
