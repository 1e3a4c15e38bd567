SELECT naem FROM singer WHERE
SELECT T1.title FROM singer AS T1
SELECT T1.name, T2.title FROM singer AS T1 JOIN concert AS T2 ON T1.id = T2.id
SELECT title FROM singer WHERE
SELECT name FROM singer JOIN "sold tickets" ON singer.id = "sold tickets".concert_id WHERE
SELECT name FROM singers
SELECT name FROM singer WHERE WHERE
SELECT name FROM singer GROUP BY name WHERE
SELECT name FROM singer WHERE age > ORDER
SELECT FROM
SELECT name FROM singer WHERE age = 3)
SELECT name FROM singer T1 WHERE T2.
SELECT name FROM singer T1 WHERE singer.name
SELECT naame(
SELECT name FROM singer s WHERE s.title
SELECT name FROM singer WHERE id IN (SELECT foo FROM concert WHERE
SELECT name FROM singer LIMIT 3 WHERE
Here is
SELECT name, FROM
DELETE FROM singer
SELECT name FROM singer age b
SELECT name FROM singer WHERE name = 'a' country
SELECT count(name FROM singer WHERE
SELECT T1.name, T1.title FROM singer AS T1
SELECT s.name FROM singer AS s JOIN concert AS s
SELECT name FROM singer ORDER BY name UNION
SELECT name FROM singer WHERE age IN (SELECT year FROM concert) year
SELECT max(age FROM singer
SELECT age FROM (SELECT name FROM singer) WHERE
SELECT T1.age FROM (SELECT name FROM singer) AS T1
WITH a AS (SELECT name FROM singer) SELECT age FROM a WHERE
SELECT name FROM singer HAVING AND
SELECT (name FROM singer
SELECT T2.age FROM singer AS T1 JOIN concert AS T2
SELECT age FROM concert WHERE
SELECT name FROM singer s AS t
SELECT name FROM Department.singer
SELECT name FROM singer ORDER BY share DESC
SELECT name FROM singer 's' WHERE singer.age
SELECT T1.'title' FROM singer AS T1
SELECT name FROM 'singers'
SELECT name FROM singer WHERE id IN name
SELECT singer.name FROM singer, singer WHERE
SELECT max(age) AS groups FROM singer WHERE ranges
SELECT id FROM singer JOIN venue ON singer.id = venue.id ORDER BY
SELECT T1.age FROM (SELECT name, count(*) FROM singer) AS T1
SELECT name FROM -
SELECT id FROM singer WHERE age IN (SELECT max(id) FROM singer s JOIN venue v ON s.id = v.id)
SELECT age FROM singer EXCEPT SELECT age FROM concert WHERE
SELECT name AS n FROM singer UNION SELECT n FROM concert WHERE
SELECT name FROM singer LEFT age
SELECT name FROM singer NATURAL WHERE
SELECT name FROM singer GROUP name
SELECT name FROM singer ORDER age
SELECT SUM(CASE WHEN age > 3 THEN 1 ELSE 0) FROM singer
SELECT CASE WHEN age > 3 THEN 1 FROM singer WHERE
SELECT CASE WHEN age BETWEEN 3 THEN 1 END FROM singer
SELECT CASE WHEN age > 3 THEN 1 AS x FROM singer
SELECT name FROM singer WHERE age BETWEEN 3 GROUP BY
SELECT name FROM singer WHERE age BETWEEN 3 OR age = 4 ORDER BY
SELECT name FROM singer JOIN concert ON age BETWEEN 3 JOIN venue
SELECT name a b FROM singer
SELECT name AS a + 1 FROM singer
SELECT name FROM singer UNION SELECT name, age FROM
SELECT name, age FROM singer UNION SELECT title FROM
(SELECT name FROM singer) UNION (SELECT title, year FROM
SELECT name FROM singer WHERE id IN (SELECT id, name FROM
SELECT name FROM singer WHERE id NOT IN (SELECT id, name FROM
SELECT name FROM singer ON id = 3
SELECT name FROM singer JOIN concert USING (zzz)
SELECT name FROM singer JOIN venue USING (name)
SELECT title FROM concert JOIN venue USING (id)
SELECT name FROM singer WHERE age > (SELECT max(id) FROM venue ORDER BY age)
SELECT name FROM singer WHERE age > (SELECT max(id) FROM venue GROUP BY singer.age)
