"""A database's schema in the forms in which a model may read it."""

from __future__ import annotations

import sqlite3
from contextlib import closing

import pytest

from qc_experiments.config.data import PRIVATE, SchemaConfig, SchemaFormat
from qc_experiments.databases.locate import Database
from qc_experiments.databases.samples import is_private
from qc_experiments.databases.schema import SchemaReader
from qc_experiments.errors import UserError

STATEMENTS = """
CREATE TABLE customer (
    id INTEGER PRIMARY KEY, -- the number on the card
    name TEXT NOT NULL,
    e_mail TEXT,
    note TEXT
);
CREATE TABLE "order" (
    "order" INTEGER, "line" INTEGER, customer INTEGER REFERENCES customer, "paid on" DATE,
    price DECIMAL(8, 2), picture BLOB,
    PRIMARY KEY ("order", line)
);
CREATE TABLE untyped (a, b);
CREATE VIEW cheap AS SELECT "order" FROM "order" WHERE price < 5;
INSERT INTO customer VALUES (1, 'Ann', 'ann@shop.org', 'call 030'), (2, 'Bo', NULL, 'bo@home.org'),
    (3, 'Cy', 'cy@shop.org', '+49 30 1234567'), (4, 'Di', 'di@shop.org', '');
INSERT INTO "order" VALUES (7, 1, 1, '2024-02-29', 4.5, x'00ff'), (7, 2, 1, '2024-03-01', 12, NULL);
INSERT INTO untyped VALUES (1, 'one
line'), ('two', NULL);
"""


@pytest.fixture
def shop(tmp_path):
    path = tmp_path / "shop.sqlite"
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript(STATEMENTS)
    return Database("sqlite", str(path))


def text_of(database, form, **style):
    with SchemaReader(SchemaFormat(form), SchemaConfig(**style)) as reader:
        return reader.of_database(database, "shop").text


def test_compact_is_a_line_for_each_table_and_each_reference(shop):
    assert text_of(shop, "compact").splitlines() == [
        "customer(id INT PRIMARY KEY /* the number on the card */, name TEXT, e_mail TEXT, note TEXT)",
        '"order"("order" INT, line INT, customer INT, "paid on" DATE, price DECIMAL(8, 2), picture BLOB, '
        'PRIMARY KEY ("order", line))',
        "untyped(a, b)",
        'CREATE VIEW cheap AS SELECT "order" FROM "order" WHERE price < 5;',
        "Foreign keys:",
        '"order".customer=customer.id',
    ]


def test_types_keys_and_comments_can_be_left_out(shop):
    bare = text_of(shop, "compact", types=False, keys=False, comments=False)
    assert bare.splitlines()[:3] == [
        "customer(id, name, e_mail, note)",
        '"order"("order", line, customer, "paid on", price, picture)',
        "untyped(a, b)",
    ]
    assert "Foreign keys" not in bare


def test_m_schema_has_a_line_for_each_column_with_sample_values(shop):
    assert text_of(shop, "m_schema").splitlines()[:16] == [
        "# Table: customer",
        "[",
        "(id:INT, the number on the card, Primary Key, Examples: [1, 2, 3]),",
        "(name:TEXT, Examples: [Ann, Bo, Cy]),",
        "(e_mail:TEXT),",
        "(note:TEXT, Examples: [call 030])",
        "]",
        '# Table: "order"',
        "[",
        '("order":INT, Primary Key, Examples: [7]),',
        "(line:INT, Primary Key, Examples: [1, 2]),",
        "(customer:INT, Examples: [1]),",
        '("paid on":DATE, Examples: [2024-02-29, 2024-03-01]),',
        "(price:DECIMAL(8, 2), Examples: [12, 4.5]),",
        "(picture:BLOB)",
        "]",
    ]


def test_statements_stay_as_they_are_and_values_follow_as_comments(shop):
    plain = text_of(shop, "ddl")
    assert plain.startswith("CREATE TABLE customer (\n    id INTEGER PRIMARY KEY, -- the number")
    with_values = text_of(shop, "ddl", values=1)
    assert with_values.startswith(f"{plain}\n-- customer.id: ")
    assert '-- "order".paid on: 2024-0' in with_values


def test_the_same_seed_draws_the_same_values_and_another_others(shop):
    draws = {text_of(shop, "m_schema", values=1, seed=seed) for seed in range(8)}
    assert text_of(shop, "m_schema", values=1, seed=3) in draws
    assert len(draws) > 1


@pytest.mark.parametrize(
    "name",
    [
        *("email", "E-Mail", "customer_e_mail", "mail_address", "phone_number", "Mobile", "Fax"),
        *("telefon", "Telephone", "tel", "tel_nr", "kennwort"),
        *("credit_card", "IBAN", "password", "pwd", "passwort", "api_token", "ssn"),
        *("mot_de_passe", "motDePasse", "contraseña", "contrasena", "senha", "wachtwoord"),
        *("passcode", "card_pin", "PIN", "pin_code", "cvv", "api_key", "apiKey"),
    ],
)
def test_no_value_of_a_column_that_sounds_private_is_shown(name):
    assert is_private(name, PRIVATE)


@pytest.mark.parametrize("name", ["shipping", "passenger", "mobility", "opinion", "spin", "key"])
def test_a_column_that_only_holds_the_letters_of_such_a_name_is_not_private(name):
    assert not is_private(name, PRIVATE)


def test_a_text_that_looks_private_is_not_shown_whatever_its_column(shop):
    found = text_of(shop, "m_schema", values=50)
    assert "call 030" in found
    assert not any(text in found for text in ("bo@home.org", "+49 30 1234567", "shop.org"))


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        ("TEXT", "Ann Lee <ann@x.org>"),
        ("TEXT", "ann@x.org;bob@y.org"),
        ("TEXT", "call +49 151 12345678 or write"),
        ("TEXT", "0151/1234567"),
        ("TEXT", "since 2020-01-01: 0151-1234567"),
        ("BIGINT", 4915112345678),
        ("REAL", 4915112345678),
    ],
)
def test_a_value_that_holds_something_private_is_not_shown(tmp_path, kind, value):
    assert "Examples" not in made(tmp_path, f"CREATE TABLE t (contact {kind})", ("t", value))


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        ("TEXT", "2020-01-01 10:00:00"),
        ("TEXT", "31.12.2019 08:30"),
        ("REAL", 37.774929123456),
        ("INTEGER", 1500000),
    ],
)
def test_days_measures_and_counts_are_no_numbers_to_call(tmp_path, kind, value):
    found = made(tmp_path, f"CREATE TABLE t (a {kind})", ("t", value))
    assert f"Examples: [{value}]" in found


def made(folder, statements, *rows, **style):
    """M-Schema of a database with a row in each of some tables."""
    path = folder / "made.sqlite"
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.executescript(statements)
        for table, *cells in rows:
            marks = ", ".join("?" for _ in cells)
            connection.execute(f"INSERT INTO {table} VALUES ({marks})", cells)
    return text_of(Database("sqlite", str(path)), "m_schema", **style)


def test_what_shows_a_private_column_under_another_name_shows_no_values(tmp_path):
    found = made(
        tmp_path,
        "CREATE TABLE person (nick TEXT PRIMARY KEY, salary INTEGER, twice AS (salary * 2));"
        "CREATE TABLE post (author TEXT REFERENCES person, liker TEXT REFERENCES person(nick), title TEXT);"
        "CREATE VIEW v(a, b) AS SELECT nick, salary FROM person;",
        *(("person", "hiddennick", 77777), ("post", "hiddennick", "hiddennick", "hello")),
        private=["salary", "nick"],
    )
    assert "hello" in found
    assert not any(text in found for text in ("hiddennick", "77777", "155554"))


def test_columns_named_private_show_no_values(shop):
    found = text_of(shop, "m_schema", private=[*PRIVATE, "^name$"])
    assert "(name:TEXT)," in found
    assert "Ann" not in found


def test_a_private_pattern_that_meets_no_column_is_refused(shop):
    with SchemaReader(SchemaFormat.m_schema, SchemaConfig(private=[*PRIVATE, "salary"])) as reader:
        reader.of_database(shop, "shop")
        with pytest.raises(UserError, match=r"--private: salary matches no column's name"):
            reader.check_private("--private")


def test_a_pattern_that_is_no_regular_expression_is_refused():
    with pytest.raises(UserError, match=r"data\.schema\.private: \( is no regular expression"):
        SchemaConfig(private=["("])


def test_long_values_are_left_out_and_line_breaks_are_blanks(shop):
    assert "(b, Examples: [one line])" in text_of(shop, "m_schema")
    assert "(b)" in text_of(shop, "m_schema", longest_value=7)


def test_a_large_table_is_sampled_from_its_first_rows(tmp_path):
    path = tmp_path / "large.sqlite"
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript(
            "CREATE TABLE t (n INTEGER, s TEXT); WITH RECURSIVE c(n) AS (SELECT 1 UNION ALL "
            "SELECT n + 1 FROM c WHERE n < 200000) INSERT INTO t SELECT n, printf('%.400c', 'x') FROM c"
        )
    found = text_of(Database("sqlite", str(path)), "m_schema", values=5)
    numbers = found.partition("Examples: [")[2].partition("]")[0].split(", ")
    assert len(numbers) == 5
    assert all(int(number) <= 1000 for number in numbers)


def test_rows_of_megabytes_are_sampled_from_a_few(tmp_path):
    path = tmp_path / "wide.sqlite"
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript(
            "CREATE TABLE t (n INTEGER, s TEXT); WITH RECURSIVE c(n) AS (SELECT 1 UNION ALL "
            "SELECT n + 1 FROM c WHERE n < 60) INSERT INTO t SELECT n, printf('%.500000c', 'x') FROM c"
        )
    assert "(n:INT, Examples: [" in text_of(Database("sqlite", str(path)), "m_schema")


@pytest.mark.slow
def test_a_thousand_tables_are_read(tmp_path):
    path = tmp_path / "many.sqlite"
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript("".join(f"CREATE TABLE t{n} (a INTEGER);" for n in range(1000)))
    assert text_of(Database("sqlite", str(path)), "m_schema").count("# Table: ") == 1000


def test_a_table_that_sqlglot_cannot_read_keeps_its_statement(tmp_path):
    path = tmp_path / "odd.sqlite"
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript("CREATE VIRTUAL TABLE f USING fts5(a, b); CREATE TABLE t (a INT);")
    found = text_of(Database("sqlite", str(path)), "compact").splitlines()
    assert found == ["CREATE VIRTUAL TABLE f USING fts5(a, b);", "t(a INT)"]


def test_duckdbs_comments_and_types_are_said(tmp_path):
    duckdb = pytest.importorskip("duckdb")
    path = tmp_path / "it.duckdb"
    with closing(duckdb.connect(str(path))) as connection:
        connection.execute(
            'CREATE TABLE "order" (id INTEGER PRIMARY KEY, "the name" VARCHAR, paid TIMESTAMP, l INTEGER[]); '
            """COMMENT ON TABLE "order" IS 'what''s ordered'; """
            """COMMENT ON COLUMN "order".paid IS 'when paid'; """
            """INSERT INTO "order" VALUES (1, 'a', '2024-01-02 03:04:05', [1, 2]); """
            'CREATE SCHEMA "my sales"; CREATE TABLE "my sales"."order" (paid DATE); '
            """COMMENT ON COLUMN "my sales"."order".paid IS 'elsewhere'"""
        )
    assert text_of(Database("duckdb", str(path)), "m_schema").splitlines() == [
        '# Table: "order", what\'s ordered',
        "[",
        "(id:INT, Primary Key, Examples: [1]),",
        '("the name":TEXT, Examples: [a]),',
        "(paid:TIMESTAMP, when paid, Examples: [2024-01-02T03:04:05]),",
        "(l:INT[], Examples: [[1, 2]])",
        "]",
        '# Table: "my sales"."order"',
        "[",
        "(paid:DATE, elsewhere)",
        "]",
    ]


def test_a_schema_without_databases_is_made_of_its_statements():
    with SchemaReader(SchemaFormat.compact) as reader:
        made = reader.of_statements("CREATE TABLE t (a INT, b TEXT)", "row 2")
        assert (made.text, made.statements) == (
            "t(a INT, b TEXT)",
            "CREATE TABLE t (a INT, b TEXT)",
        )
        with pytest.raises(UserError, match="row 2: its context holds no CREATE statements"):
            reader.of_statements("table t with column a", "row 2")


def test_a_statement_in_an_old_encoding_is_read(tmp_path):
    path = tmp_path / "old.sqlite"
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute(
            "CREATE TABLE pet (id INT, name TEXT -- der Name des Tieres XY\n, age INT)"
        )
    path.write_bytes(path.read_bytes().replace(b"Tieres XY", b"Tieres \xfcb"))
    for form in SchemaFormat:
        found = text_of(Database("sqlite", str(path)), form.value)
        assert not found.startswith("b'")
        assert all(name in found for name in ("pet", "name", "age"))


def test_names_that_are_reserved_words_keep_their_quotes_and_show_values(tmp_path):
    found = made(
        tmp_path,
        'CREATE TABLE "transaction" (id INT, "check" TEXT, "user" TEXT);',
        ('"transaction"', 1, "passed", "none"),
    )
    assert '# Table: "transaction"' in found
    assert "passed" in found
