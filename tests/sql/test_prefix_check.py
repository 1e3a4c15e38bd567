"""Texts that a model is writing: no valid query is refused at any of its characters, broken ones soon are."""

from __future__ import annotations

import csv
import os
import sqlite3
from contextlib import closing
from pathlib import Path
from string import ascii_lowercase

import pytest
from helpers.runs import ROOT

from qc_experiments.sql.prefix_check import PrefixCheck, schema_check
from qc_experiments.sql.scopes import Outlook
from qc_experiments.sql.tokens import tokens
from qc_experiments.sql.words import WORDS

SCHEMA = """CREATE TABLE singer (id INTEGER PRIMARY KEY, name TEXT, age INT, "net worth" REAL, "order" INT,
    country TEXT, birth DATE, CHECK (age > 0));
CREATE TABLE concert (cid INTEGER PRIMARY KEY, title TEXT, year INT, singer_id INT, date TEXT, rank INT,
    FOREIGN KEY (singer_id) REFERENCES singer (id));
CREATE TABLE IF NOT EXISTS 'sold tickets' (concert_id INT, price DECIMAL(10, 2), name TEXT);
CREATE TABLE venue (id INT, city TEXT, interval INT);
CREATE VIEW v AS SELECT 1 AS x;"""


def lines(name: str) -> list[str]:
    text = (Path(__file__).parent / "prefixes" / f"{name}.sql").read_text(encoding="utf-8")
    return text.splitlines()


def first_refusal(check: PrefixCheck, query: str) -> str | None:
    """The shortest beginning of a query that is refused, or all of it, or None."""
    for end in range(1, len(query) + 1):
        if check.outlook(query[:end]) is Outlook.IMPOSSIBLE:
            return query[:end]
    return query if check.outlook(query, ended=True) is Outlook.IMPOSSIBLE else None


def check_of(schema: str, dialect: str = "sqlite", closing: str = "") -> PrefixCheck:
    check = schema_check(schema, dialect, closing)
    assert check is not None
    return check


@pytest.mark.parametrize("query", lines("valid"))
def test_no_valid_query_is_refused(query):
    with closing(sqlite3.connect(":memory:")) as connection:
        connection.executescript(SCHEMA)
        connection.execute(f"EXPLAIN {query}")  # it is valid
    check = check_of(SCHEMA)
    assert first_refusal(check, query) is None
    assert first_refusal(check, f"{query};") is None
    assert first_refusal(check, f"```sql\n{query}\n```") is None


@pytest.mark.parametrize(
    ("dialect", "query"),
    [
        (dialect, query)
        for dialect in ("postgres", "duckdb")
        for query in (*lines("postgres_and_duckdb"), *lines(dialect))
    ],
)
def test_nor_is_one_of_another_dialect(dialect, query):
    assert first_refusal(check_of(SCHEMA, dialect), query) is None


@pytest.mark.parametrize("dialect", ["duckdb", "postgres"])
@pytest.mark.parametrize(
    "query",
    [
        "SELECT date_trunc('month', birth) FROM singer WHERE age(birth) < now() - interval '1 year'",
        "SELECT string_agg(name, ','), median(age) FROM singer GROUP BY split_part(country, ' ', 1)",
        "SELECT EXTRACT(YEAR FROM birth), TRIM(BOTH ' ' FROM name), TRIM(LEADING FROM name) FROM singer",
        "SELECT SUBSTRING(name FROM 2 FOR age) FROM singer WHERE EXTRACT(day FROM birth) > 3",
        "SELECT count(*) FROM generate_series(1, 3)",
    ],
)
def test_a_function_of_another_dialect_is_never_doubtful(dialect, query):
    check = check_of(SCHEMA, dialect)
    begun = [query[:end] for end in range(1, len(query) + 1)]
    assert [one for one in begun if check.outlook(one) is not Outlook.POSSIBLE] == []


@pytest.mark.parametrize("dialect", ["sqlite", "duckdb", "postgres"])
@pytest.mark.parametrize(
    "query",
    [
        "SELECT key, settings.exclude FROM settings WHERE key = 'theme'",
        "SELECT temp.day FROM temp ORDER BY degrees",
        "SELECT id FROM virtual JOIN replace USING (id)",
        "SELECT id FROM temporary",
    ],
)
def test_tables_and_columns_may_have_names_that_mean_something_in_sql(dialect, query):
    schema = """CREATE TABLE settings (key TEXT, value TEXT, exclude INT, PRIMARY KEY (key));
        CREATE TEMP TABLE IF NOT EXISTS temp (day DATE, degrees REAL);
        CREATE TABLE virtual (id INT); CREATE TABLE replace (id INT); CREATE TABLE temporary (id INT);"""
    assert first_refusal(check_of(schema, dialect), query) is None


@pytest.mark.parametrize("dialect", ["sqlite", "duckdb", "postgres"])
def test_names_are_read_in_all_scripts(dialect):
    schema = "CREATE TABLE สัตว์ (ชื่อ TEXT, อายุ INT); CREATE TABLE कुत्ता (नाम TEXT)"
    check = check_of(schema, dialect)
    assert first_refusal(check, "SELECT ชื่อ FROM สัตว์ WHERE อายุ > 3") is None
    assert first_refusal(check, "SELECT नाम FROM कुत्ता AS छोटा WHERE छोटा.नाम = 'x'") is None
    assert check.outlook("SELECT नाम FROM สัตว์ WHERE ") is Outlook.IMPOSSIBLE
    half = "SELECT ชื่อ".encode()[:-1].decode(errors="replace")  # as a tokenizer of bytes has it
    assert check.outlook(half) is not Outlook.IMPOSSIBLE
    assert check.outlook(f"{half} FROM สัตว์ WHERE ") is Outlook.IMPOSSIBLE


@pytest.mark.parametrize("query", lines("broken"))
def test_what_can_become_no_valid_query_is_refused(query):
    assert check_of(SCHEMA).outlook(f"{query} ") is Outlook.IMPOSSIBLE


@pytest.mark.parametrize("query", lines("unfinished"))
def test_an_answer_does_not_end_within_a_query(query):
    check = check_of(SCHEMA)
    assert check.outlook(query) is not Outlook.IMPOSSIBLE
    assert check.outlook(query, ended=True) is Outlook.IMPOSSIBLE
    assert check.outlook(f"{query};") is Outlook.IMPOSSIBLE


@pytest.mark.parametrize(
    "text",
    [
        "SELECT nome",  # no column begins so
        "SELECT T1.name, T1.title",  # no table has both
        "SELECT singer.title",
        "SELECT name FROM singer JOIN concert ON T3.",
    ],
)
def test_a_name_that_only_a_later_subquery_could_have_is_doubtful(text):
    assert check_of(SCHEMA).outlook(text) is Outlook.DOUBTFUL


def test_text_that_closes_the_template_may_follow_the_query():
    check = check_of(SCHEMA, closing="### End")
    assert first_refusal(check, "SELECT name FROM singer\n### End") is None
    assert check.outlook("SELECT name FROM\n### End") is Outlook.IMPOSSIBLE
    check = check_of(SCHEMA, closing=";")
    assert first_refusal(check, "SELECT name FROM singer WHERE name = 'a;b';") is None


@pytest.mark.parametrize(
    "query",
    [
        "SELECT email FROM crm.customers",
        "SELECT total FROM crm.customers a JOIN sales.customers b ON a.id = b.id",
        "SELECT email FROM crm.customers JOIN sales.customers ON crm.customers.id = sales.customers.id",
    ],
)
def test_a_table_may_stand_in_two_schemas(query):
    schema = """CREATE TABLE crm.customers (id INT, email TEXT);
        CREATE TABLE sales.customers (id INT, total INT);"""
    for dialect in ("postgres", "duckdb"):
        assert first_refusal(check_of(schema, dialect), query) is None


@pytest.mark.parametrize(
    "statement",
    [
        "CREATE TABLE child (extra INT) INHERITS (base);",
        "CREATE TABLE child (LIKE base INCLUDING ALL, extra INT);",
        "CREATE MATERIALIZED VIEW child AS SELECT name, 1 AS extra FROM base;",
        "CREATE FOREIGN TABLE child (name TEXT, extra INT) SERVER elsewhere;",
    ],
)
def test_a_table_may_have_columns_that_its_statement_does_not_list(statement):
    check = check_of(f"CREATE TABLE base (id INT, name TEXT); {statement}", "postgres")
    assert first_refusal(check, "SELECT name FROM child WHERE extra = 1") is None
    assert first_refusal(check, "SELECT extra FROM base WHERE id = 1") is not None


@pytest.mark.parametrize("dialect", ["duckdb", "postgres"])
@pytest.mark.parametrize(
    "query",
    [
        "SELECT naem FROM singer",
        "SELECT name FROM singer WHERE naem = 3",
        "SELECT name, date_part FROM singer",
        "SELECT EXTRACT(YEAR FROM brith) FROM singer",
        "SELECT count(*) FROM singer WHERE month = 3",
        "SELECT s.title FROM singer s",
        "SELECT name FROM singer ORDER BY title",
        "SELECT a FROM (SELECT name FROM singer) t",
        "SELECT id FROM singer JOIN venue ON singer.id = venue.id",
    ],
)
def test_other_dialects_have_the_same_plain_errors(dialect, query):
    assert check_of(SCHEMA, dialect).outlook(query, ended=True) is Outlook.IMPOSSIBLE


@pytest.mark.parametrize("dialect", ["postgres", "duckdb"])
def test_the_name_of_a_schema_is_as_known_as_those_of_its_tables(dialect):
    check = check_of(
        "CREATE TABLE sales.orders (id INT, total INT); CREATE TABLE t (a INT)", dialect
    )
    query = "SELECT sales.orders.total, a FROM sales.orders JOIN t ON true"
    begun = [query[:end] for end in range(1, len(query) + 1)]
    assert [one for one in begun if check.outlook(one) is not Outlook.POSSIBLE] == []
    again = "WITH orders AS (SELECT a FROM t) SELECT a FROM orders WHERE "
    assert check.outlook(again) is Outlook.POSSIBLE
    for wrong in ("orders ", "nosuch.", "nosuch.orders", "sales.t", "sales "):
        assert check.outlook(f"SELECT total FROM {wrong}") is Outlook.DOUBTFUL


def test_a_context_without_tables_constrains_nothing():
    assert schema_check("singer: name, age", "sqlite") is None


def demo() -> list[dict[str, str]]:
    files = (ROOT / "qc_experiments" / "demo" / f"{name}.csv" for name in ("train", "validation"))
    return [row for file in files for row in csv.DictReader(file.open(newline=""))]


def test_no_gold_of_the_demo_is_refused():
    for row in demo():
        assert first_refusal(check_of(row["context"]), row["query"]) is None


@pytest.mark.parametrize("dialect", ["sqlite", "duckdb", "postgres"])
def test_no_gold_of_the_demo_is_doubtful_before_its_words(dialect):
    extra = ["SELECT name FROM singer NATURAL LEFT OUTER JOIN concert CROSS JOIN venue"]
    pairs = [(row["context"], row["query"]) for row in demo()] + [(SCHEMA, one) for one in extra]
    for context, query in pairs:
        check = check_of(context, dialect)
        begun = [query[: token.start] for token in tokens(query)[1:]]
        assert [one for one in begun if check.outlook(one) is not Outlook.POSSIBLE] == []


@pytest.mark.parametrize("before", ["WHERE ", "WHERE name ", "ORDER BY "])
def test_a_word_that_is_let_through_can_go_on(before):
    check = check_of("CREATE TABLE singer (id INT, name TEXT)")
    for word in sorted(WORDS):
        text = f"SELECT name FROM singer {before}{word}"
        if check.outlook(text) is Outlook.POSSIBLE:
            nexts = f" ('{ascii_lowercase}"
            assert any(check.outlook(text + one) is not Outlook.IMPOSSIBLE for one in nexts), text


@pytest.mark.slow
@pytest.mark.parametrize("file", ["train", "dev", "train_others"])
def test_no_gold_of_spider_is_refused(file):
    folder = Path(os.environ.get("QC_SPIDER", ROOT / "spider"))
    if not (folder / f"{file}.csv").is_file():
        pytest.skip("Spider is not here: name its folder with QC_SPIDER")
    with (folder / f"{file}.csv").open(newline="", encoding="utf-8") as opened:
        rows = list(csv.DictReader(opened))
    refused = {row["query"]: first_refusal(check_of(row["context"]), row["query"]) for row in rows}
    assert {query: at for query, at in refused.items() if at is not None} == {}
