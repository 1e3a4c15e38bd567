SELECT cnt FROM (SELECT count(*) AS cnt, country FROM singer GROUP BY country) WHERE cnt > 1
SELECT t.cnt, t.country FROM (SELECT count(*) cnt, country FROM singer GROUP BY country) t ORDER BY t.cnt DESC
WITH a AS (SELECT id AS k, name FROM singer), b(x, y) AS (SELECT cid, title FROM concert) SELECT k, y FROM a JOIN b ON a.k = b.x
WITH RECURSIVE c(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM c WHERE n < 5) SELECT n FROM c
SELECT name, (SELECT count(*) FROM concert WHERE singer_id = singer.id) AS n FROM singer ORDER BY n DESC, name LIMIT 3 OFFSET 1
SELECT s.name FROM singer s WHERE EXISTS (SELECT 1 FROM concert c WHERE c.singer_id = s.id AND c.year > 2000)
SELECT s.name FROM singer s WHERE NOT EXISTS (SELECT * FROM concert c WHERE c.singer_id = s.id)
SELECT CASE WHEN age > 30 THEN 'old' WHEN age IS NULL THEN NULL ELSE 'young' END AS kind, count(*) FROM singer GROUP BY kind HAVING count(*) >= 2
SELECT "net worth", [order], `name` FROM singer WHERE "order" BETWEEN 1 AND 5 AND name LIKE '%a' ESCAPE '\\'
SELECT name AS n FROM singer WHERE n = 'x'
SELECT name FROM singer UNION SELECT title FROM concert ORDER BY name
SELECT name FROM singer UNION ALL SELECT title FROM concert EXCEPT SELECT name FROM "sold tickets" ORDER BY 1 LIMIT 5
SELECT rank, date, year FROM concert WHERE date > '2020-01-01' ORDER BY rank ASC, year DESC NULLS LAST
SELECT name, rank() OVER (PARTITION BY country ORDER BY age DESC) AS r, row_number() OVER w FROM singer WINDOW w AS (ORDER BY id)
SELECT sum(age) FILTER (WHERE country = 'FR') FROM singer
SELECT sum(price) OVER (ORDER BY concert_id ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW) FROM "sold tickets"
SELECT CAST(age AS REAL) / 2, CAST(age AS VARCHAR(10)), round(1.5e3 * age, 2) FROM singer
SELECT count(DISTINCT name), group_concat(name, ', '), max(age) - min(age) FROM singer
SELECT T1.name, T2.title FROM singer AS T1 LEFT OUTER JOIN concert AS T2 ON T1.id = T2.singer_id AND T2.year > 2010 WHERE T2.cid IS NULL
SELECT a.name, b.name FROM singer a, singer b WHERE a.id < b.id AND a.country = b.country
SELECT title FROM singer NATURAL JOIN concert
SELECT name FROM singer JOIN "sold tickets" USING (name)
SELECT singer.name FROM singer CROSS JOIN concert
SELECT name FROM (singer JOIN concert ON singer.id = concert.singer_id) WHERE year = 2014
SELECT x FROM v
SELECT * FROM singer, concert WHERE singer.id = concert.singer_id AND (age > 20 OR NOT age < 10)
SELECT s.* FROM singer AS s WHERE s.id IN (1, 2, 3) AND -s.age < +5
SELECT name FROM singer WHERE age = (SELECT max(age) FROM singer) AND id NOT IN (SELECT singer_id FROM concert GROUP BY singer_id)
SELECT name || ' ' || country FROM singer WHERE name IS NOT NULL AND age IS NOT 5
SELECT name FROM singer WHERE (age, country) IN (SELECT max(age), country FROM singer GROUP BY country)
SELECT strftime('%Y', date) AS y, count(*) FROM concert GROUP BY y
SELECT iif(age > 3, 'a', 'b'), coalesce(name, 'none'), ifnull(age, 0), nullif(age, 3) FROM singer
SELECT DISTINCT country FROM singer WHERE country COLLATE NOCASE = 'fr' ORDER BY country COLLATE NOCASE
VALUES (1, 2), (3, 4)
SELECT name FROM singer WHERE id = 1 OR id = 2 GROUP BY 1 ORDER BY 1
SELECT rowid, name FROM singer WHERE rowid < 3
SELECT json_extract(name, '$.a') FROM singer
SELECT j.value FROM singer, json_each(singer.name) AS j
SELECT 'a' 'b'
SELECT name 'Name of singer' FROM singer
SELECT avg(n) FROM (SELECT count(*) AS n FROM concert GROUP BY singer_id)
SELECT max(n) FROM (SELECT singer_id, count(*) AS n FROM concert GROUP BY singer_id) AS q JOIN singer ON q.singer_id = singer.id
SELECT country, count(*) FROM singer GROUP BY country HAVING count(*) = (SELECT max(k) FROM (SELECT count(*) AS k FROM singer GROUP BY country))
SELECT name FROM singer WHERE name = "Bob" AND country = "a b c"
SELECT s1.name FROM singer AS s1 INNER JOIN concert c1 ON c1.singer_id = s1.id INNER JOIN "sold tickets" st ON st.concert_id = c1.cid
SELECT count ( * ) FROM singer
SELECT  name , age FROM singer /* all */ WHERE age > 1 -- end
SELECT name FROM main.singer
SELECT EXISTS (SELECT 1 FROM singer WHERE age > 90)
SELECT NOT age > 3 FROM singer
SELECT total(age), abs(-3), 5 % 2, age & 1, ~age, age << 2 FROM singer
SELECT first.name FROM singer AS first JOIN singer AS last ON first.id = last.id
SELECT id, age FROM singer ORDER BY CASE WHEN age > 5 THEN 1 ELSE 0 END DESC, name
SELECT x.c FROM (SELECT country AS c FROM singer UNION SELECT title FROM concert) x
SELECT name FROM singer WHERE country IN ('a', 'b') AND age NOT BETWEEN 1 AND 3 AND name NOT LIKE 'x%'
SELECT name FROM singer LIMIT 1, 2
SELECT a.b FROM (SELECT 1 AS b) AS a
SELECT julianday('now') - julianday(date) AS days FROM concert WHERE days > 5
SELECT length(name) len FROM singer ORDER BY len
SELECT max(year) AS year FROM concert
SELECT singer.name, concert.title FROM concert INNER JOIN singer ON concert.singer_id = singer.id WHERE singer.country = 'US' GROUP BY singer.name, concert.title
SELECT AVG(age) FROM (SELECT age FROM singer ORDER BY age LIMIT 2 - (SELECT COUNT(*) FROM singer) % 2 OFFSET (SELECT (COUNT(*) - 1) / 2 FROM singer))
SELECT name FROM singer WHERE name GLOB ('A*') OR name LIKE ('B%')
SELECT name FROM singer WHERE (age IS NOT DISTINCT FROM 30 AND name IS NULL) OR country IS DISTINCT FROM 'France'
SELECT age IS DISTINCT FROM 30, name FROM singer
SELECT .5 * age FROM singer WHERE "net worth" BETWEEN .1 AND .9
SELECT X'41' FROM singer WHERE name = x'00ff'
SELECT country, count(*) * 1.0 / 5 AS share FROM singer GROUP BY country ORDER BY share DESC
SELECT max(age) range FROM singer ORDER BY range
SELECT max(age) AS first, min(age) AS match FROM singer ORDER BY first, match
SELECT name FROM (SELECT name, row_number() OVER (ORDER BY age) AS row_number FROM singer) WHERE row_number = 1
SELECT CASE WHEN current > 3 THEN current END FROM (SELECT max(age) AS current FROM singer) m WHERE current IS NOT NULL
SELECT rank() OVER (PARTITION BY groups ORDER BY groups) FROM (SELECT age AS groups FROM singer) t
SELECT sum(age) OVER (ORDER BY age RANGE BETWEEN 1 PRECEDING AND CURRENT ROW) FROM singer
WITH current AS (SELECT name FROM singer), sets AS (SELECT title FROM concert) SELECT current.name FROM current, sets
WITH groups AS (SELECT country, count(*) AS n FROM singer GROUP BY country) SELECT max(n) FROM groups
WITH first AS (SELECT name FROM singer), last AS (SELECT name FROM first) SELECT name FROM last
WITH t(share, n) AS (SELECT age, 1 FROM singer) SELECT n FROM t
WITH x AS MATERIALIZED (SELECT name FROM singer) SELECT name FROM x
SELECT next.id FROM singer JOIN singer next ON next.id = singer.id JOIN concert AS last ON last.singer_id = next.id
SELECT name FROM singer WHERE like('a%', name) AND name NOT GLOB 'b*'
SELECT count(name) FROM (SELECT DISTINCT(name) FROM singer)
WITH t AS (SELECT DISTINCT (singer.country) FROM singer) SELECT country FROM t
SELECT name FROM (SELECT name COLLATE NOCASE FROM singer)
SELECT DISTINCT(name) FROM singer UNION SELECT title FROM concert ORDER BY name
SELECT max(age) FROM singer UNION SELECT max(cid) FROM concert ORDER BY max(age)
SELECT name, count(*) AS 'cnt', max(age) 'top' FROM singer GROUP BY name ORDER BY cnt DESC, top
SELECT t.'cnt' FROM (SELECT count(*) AS 'cnt' FROM singer) AS 't'
SELECT T1.'name', 'T1'.age FROM 'singer' AS T1
WITH 'x' AS (SELECT 1 AS a) SELECT a FROM x
SELECT title FROM (SELECT name FROM singer UNION SELECT title FROM concert) u JOIN concert ON u.name = concert.title
SELECT t.name FROM (singer JOIN concert ON singer.id = concert.singer_id) AS t
SELECT country group_name, age order_age, id limit_value, name window_name FROM singer union_all
WITH t AS (SELECT id FROM singer WHERE age > 3) SELECT name FROM singer WHERE id IN t
SELECT name FROM pragma_table_info('singer')
SELECT tbl_name FROM sqlite_temp_master
SELECT t."count(*)" FROM (SELECT count(*) FROM singer) AS t
SELECT count(*) FROM singer, singer
SELECT singer.name FROM singer NOT INDEXED WHERE singer.age > 3
SELECT name, rank() OVER (w ORDER BY age) FROM singer WINDOW w AS (PARTITION BY country)
SELECT name FROM /* all */ singer -- of them
SELECT singer.[id], `age` FROM [singer] WHERE [singer].[age] > 3 AND singer .name = 'a'
SELECT sum(age) OVER w FROM singer WINDOW w AS (PARTITION BY country ORDER BY id ROWS 2 PRECEDING)
SELECT name FROM singer WHERE glob ('a*', name) AND like ('a', name)
SELECT age AS offset, id window FROM singer ORDER BY offset DESC, window
SELECT anti.name, groups.title FROM singer anti JOIN concert groups ON anti.id = groups.singer_id
SELECT by, count(*) FROM (SELECT age AS by FROM singer) t GROUP BY by HAVING by > 3 ORDER BY by
SELECT CASE WHEN desc = 3 THEN desc ELSE desc END FROM (SELECT age AS desc FROM singer) t GROUP BY desc HAVING desc > 1
WITH t(recursive, n) AS (SELECT id, name FROM singer) SELECT n, recursive FROM t
SELECT name FROM singer UNION ALL SELECT DISTINCT title FROM concert ORDER BY name
SELECT name AS n FROM singer EXCEPT SELECT title FROM concert ORDER BY n
SELECT name, sum(age) OVER (ORDER BY age RANGE BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW) FROM singer
SELECT name, sum(age) OVER (ROWS BETWEEN 1 PRECEDING AND 1 FOLLOWING) FROM singer NOT INDEXED WHERE NOT age NOT BETWEEN 1 AND 3
SELECT title FROM singer NATURAL LEFT OUTER JOIN venue CROSS JOIN concert INNER JOIN "sold tickets" ON concert_id = cid
SELECT CASE WHEN age BETWEEN CASE WHEN id > 3 AND age > 1 THEN 1 ELSE 2 END AND 3 AND id > 2 THEN 'a' END x FROM singer
SELECT name FROM singer WHERE CASE age WHEN 1 THEN 2 END BETWEEN 1 AND 3 OR age NOT BETWEEN 3 AND (4) ORDER BY CASE WHEN name = 'a' THEN CASE id WHEN 2 THEN 3 END ELSE 1 END, name
SELECT name a, max(age) 'b', id "c" FROM singer UNION SELECT title, rank, 3 x FROM concert
SELECT 1 a LIMIT 1
SELECT * FROM venue UNION SELECT id, name, age FROM singer UNION VALUES (1, 2, 3), (4, 5, 6) UNION SELECT a.*, 2 FROM (SELECT 1, 2) AS a
SELECT count(*), max(age) FROM singer UNION SELECT (id), (SELECT 1 FROM venue) FROM singer WHERE (id, age) IN (SELECT cid, year FROM concert) AND (id, age) NOT IN (SELECT cid, year FROM concert)
SELECT name FROM singer WHERE age > (SELECT max(id) FROM venue ORDER BY (SELECT id FROM concert WHERE cid = venue.id) LIMIT 1)
SELECT name FROM singer, concert ON singer_id = id WHERE age > (SELECT max(id) FROM venue WHERE id < age GROUP BY id + 1 HAVING max(id) > age)
SELECT T1.name FROM singer AS T1 WHERE T1.age = (SELECT T1.age FROM concert AS T1 JOIN venue AS T2 ON T1.cid = T2.id AND T1.age > 2 WHERE T1.name = 'a')
SELECT (SELECT T1.age FROM concert AS T1) FROM singer AS T1
SELECT title FROM singer JOIN venue USING (id) JOIN concert ON singer_id = id JOIN "sold tickets" USING (name)
SELECT city FROM singer JOIN (venue JOIN concert ON cid = id) USING (id) JOIN (SELECT id, cid AS i FROM venue, concert) USING (id)
SELECT name FROM singer WHERE age BETWEEN (SELECT min(age) FROM singer) AND 30 AND CASE WHEN age IN (SELECT id FROM venue) THEN (SELECT 1) END > 2
