"""A CSV with a fault of every kind that `qc data check` knows of rows, and the databases it is about."""

from __future__ import annotations

import csv
import sqlite3
from contextlib import closing
from pathlib import Path

TABLES = (
    "CREATE TABLE customer (id INTEGER PRIMARY KEY, name TEXT, city TEXT, age INTEGER);\n"
    "CREATE TABLE purchase (id INTEGER PRIMARY KEY, customer_id INTEGER REFERENCES customer(id), "
    "item TEXT, price REAL);"
)
CONTENT = """
CREATE TABLE hidden (x TEXT); INSERT INTO hidden VALUES ('a');
INSERT INTO customer VALUES (1, 'Ann', 'London', 30), (2, 'Bo', 'Paris', 41), (3, 'Cy', 'London', 30);
INSERT INTO purchase VALUES (1, 1, 'tea', 2.5), (2, 1, 'cup', 4), (3, 2, 'tea', 2.5);
"""
GOOD = (
    ("How many customers are there?", "SELECT count(*) FROM customer"),
    (
        "List the names of all customers from London.",
        "SELECT name FROM customer WHERE city = 'London'",
    ),
    ("What is the average price?", "SELECT avg(price) FROM purchase"),
    (
        "Which items did Ann buy?",
        "SELECT T2.item FROM customer AS T1 JOIN purchase AS T2 ON T1.id = T2.customer_id "
        "WHERE T1.name = 'Ann'",
    ),
    ("How many customers live in each city?", "SELECT city, count(*) FROM customer GROUP BY city"),
    ("Who is the oldest customer?", "SELECT name FROM customer ORDER BY age DESC LIMIT 1"),
    ("Who is older than thirty-five?", "SELECT name FROM customer WHERE age > 35"),
    ("Whose names begin with A?", "SELECT name FROM customer WHERE name LIKE 'A%'"),
    (
        "Which cities have more than one customer?",
        "SELECT city FROM customer GROUP BY city HAVING count(*) > 1",
    ),
)
PLANTED = (
    ("repeat", "How many customers are there?", "SELECT count(*) FROM customer"),
    ("near_repeat", "How many customers are there ?!", "SELECT COUNT(*) FROM customer"),
    ("conflict", "What is the average price?", "SELECT max(price) FROM purchase"),
    ("near_conflict", "which items did ann buy", "SELECT item FROM purchase"),
    ("not_sql", "Show all items sold.", "SELEC item FRM purchase"),
    ("query_fails", "Give the weight of the items.", "SELECT weigh(item) FROM purchase"),
    (
        "empty_result",
        "Which customers live in Rome?",
        "SELECT id FROM customer WHERE city = 'Rome'",
    ),
    ("tie", "Who is the youngest?", "SELECT name FROM customer ORDER BY age LIMIT 1"),
    ("not_in_context", "What is hidden?", "SELECT x FROM hidden"),
    (
        "unknown_literal",
        "What is cheap?",
        "SELECT item FROM purchase WHERE item = 'pencil' OR price < 3",
    ),
    (
        "literal_case",
        "Who lives in paris?",
        "SELECT id FROM customer WHERE city = 'paris' OR id = 1",
    ),
    ("empty_cell", "When?", ""),
    ("several_statements", "Show all.", "SELECT id FROM customer; SELECT id FROM purchase"),
    ("query_writes", "Remove all items.", "DELETE FROM purchase"),
    ("limit_without_order", "Show two customers.", "SELECT name FROM customer LIMIT 2"),
    ("random", "Pick a customer.", "SELECT name FROM customer ORDER BY random(), id LIMIT 1"),
    ("text_for_column", "Which cities are there?", 'SELECT DISTINCT "citty" FROM customer'),
    ("double_quoted", "Which id has Bo?", 'SELECT id FROM customer WHERE name = "Bo"'),
    ("cross_join", "Show names with items.", "SELECT name, item FROM customer, purchase"),
    ("fenced", "What are the ages?", "```sql\nSELECT age FROM customer\n```"),
    ("question_is_sql", "SELECT age FROM customer", "SELECT age FROM customer ORDER BY age"),
    ("garbled", "How much did the cafÃ© visitor pay?", "SELECT sum(price) FROM purchase"),
    ("placeholder", "How old is {name}?", "SELECT age FROM customer ORDER BY id"),
    (
        "too_slow",
        "Count for ever.",
        "WITH RECURSIVE c(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM c) SELECT count(*) FROM c",
    ),
)
OTHER = (
    ("other_context", "How many items cost 4?", "SELECT count(*) FROM purchase WHERE price = 4"),
    ("no_database", "How many rooms are there?", "SELECT count(*) FROM room"),
)
"""Whose context or database differs from the others'."""


def make_planted(folder: Path) -> tuple[Path, Path, dict[str, int]]:
    """Write ``planted.csv`` and ``databases/``; these and the row of each kind of fault."""
    file = folder / "databases" / "shop" / "shop.sqlite"
    file.parent.mkdir(parents=True)
    with closing(sqlite3.connect(file)) as connection:
        connection.executescript(TABLES + CONTENT)
    rows = [(*row, TABLES, "shop") for row in GOOD]
    rows += [(question, query, TABLES, "shop") for _, question, query in PLANTED]
    (_, *other), (_, *lost) = OTHER
    rows += [(*other, TABLES.replace("item TEXT", "item VARCHAR"), "shop")]
    rows += [(*lost, "CREATE TABLE room (id INTEGER);", "hotel")]
    path = folder / "planted.csv"
    with path.open("w", newline="", encoding="utf-8") as out:
        csv.writer(out).writerows([("question", "query", "context", "db_id"), *rows])
    kinds = [kind for kind, *_ in (*PLANTED, *OTHER)]
    return path, folder / "databases", {kind: 2 + len(GOOD) + n for n, kind in enumerate(kinds)}
