SELECT name FROM singer WHERE age >
SELECT name FROM
SELECT name,
SELECT nam
SELECT name FROM singer AS
SELECT name FROM singer UNION
SELECT
