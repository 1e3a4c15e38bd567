"""Of a schema that is too long, what a question needs stays."""

from __future__ import annotations

import sqlite3
from contextlib import closing

import pytest

from qc_experiments.config.data import SchemaConfig, SchemaFormat
from qc_experiments.data.contexts import ContextMaker
from qc_experiments.data.table import Row
from qc_experiments.databases import linking, schema_text
from qc_experiments.databases.linking import CHARACTERS, words
from qc_experiments.databases.locate import Databases
from qc_experiments.databases.schema import SchemaReader
from qc_experiments.sql.ddl import read_ddl

FILLER = "".join(
    f"CREATE TABLE archive_{n} (id INTEGER PRIMARY KEY, "
    + ", ".join(f"field_{n}_{m} TEXT" for m in range(9))
    + ");\n"
    for n in range(12)
)
SCHEMA = f"""
CREATE TABLE customer (id INTEGER PRIMARY KEY, fullName TEXT, city TEXT, born INTEGER, note TEXT);
CREATE TABLE purchase (id INTEGER PRIMARY KEY, customer_id INTEGER REFERENCES customer(id), day TEXT);
CREATE TABLE purchase_item (
    purchase_id INTEGER REFERENCES purchase(id), product_id INTEGER REFERENCES product(id), amount INTEGER
);
CREATE TABLE product (id INTEGER PRIMARY KEY, title TEXT, price REAL);
{FILLER}
INSERT INTO product VALUES (1, 'espresso machine', 99.5), (2, 'cup', 4);
INSERT INTO customer VALUES (1, 'Ann', 'Lisbon', 1990, 'x');
"""


@pytest.fixture
def shop(tmp_path):
    path = tmp_path / "shop.sqlite"
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript(SCHEMA)
    return Databases(str(path))


def linked(databases, question, tokens, form=SchemaFormat.ddl):
    with SchemaReader(form, SchemaConfig(), tokens) as reader:
        maker = ContextMaker(reader, databases, always=True)
        return maker.fill([Row(2, question, "", "")], "rows")[0]


def tables_of(row):
    return [table.name for table in read_ddl(row.context)]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("fullName", ["full", "name"]),
        ("customer_ids", ["customer", "id"]),
        ("HTTPStatus2", ["http", "statu", "2"]),
        ("the addresses", ["the", "addresse"]),
        ("Größe", ["größe"]),
        ("glass", ["glass"]),
    ],
)
def test_names_are_cut_into_words(name, expected):
    assert words(name) == expected


def test_the_tables_that_a_question_names_stay(shop):
    assert "customer" in tables_of(linked(shop, "In which city was each customer born?", 120))
    row = linked(shop, "What is the price of each product?", 60)
    assert tables_of(row)[0] == "product"
    assert "price" in row.context


def test_a_value_finds_its_column(shop):
    """The question names neither the table nor a column of it."""
    assert "product" in tables_of(linked(shop, "Who paid for an espresso?", 90))
    assert "customer" in tables_of(linked(shop, "Who comes from Lisbon?", 90))


def test_tables_on_the_way_between_two_stay_with_them(shop):
    row = linked(shop, "Which customer full name bought a product with the title cup?", 170)
    assert {"customer", "purchase", "purchase_item", "product"} <= set(tables_of(row))


@pytest.mark.parametrize("form", list(SchemaFormat))
@pytest.mark.parametrize("tokens", [60, 150, 400, 800])
def test_what_is_kept_fits_and_the_judge_knows_all_tables(shop, form, tokens):
    row = linked(shop, "What is the price of each product?", tokens, form)
    assert len(row.context) <= CHARACTERS * tokens
    assert "archive_11" in row.schema


def test_a_schema_that_fits_stays_whole(shop):
    with SchemaReader(SchemaFormat.ddl, SchemaConfig()) as reader:
        whole = ContextMaker(reader, shop, always=True).fill([Row(2, "q", "", "")], "rows")[0]
    assert linked(shop, "price?", 100_000).context == whole.context


def test_the_order_of_tables_is_the_same_for_all_questions(shop):
    orders = [
        tables_of(linked(shop, question, 150))
        for question in ("What price has a product?", "Which customer bought which product title?")
    ]
    common = [name for name in orders[0] if name in orders[1]]
    assert common == [name for name in orders[1] if name in orders[0]]


def test_a_question_of_unknown_words_gets_a_schema_too(shop):
    assert tables_of(linked(shop, "zzz?", 100))


def test_statements_in_a_csv_are_linked_without_a_database():
    with SchemaReader(SchemaFormat.ddl, SchemaConfig(), 60) as reader:
        rows = [Row(2, "What is the price of each product?", "", SCHEMA.partition("INSERT")[0])]
        found = ContextMaker(reader, None, always=True).fill(rows, "rows")[0]
    assert tables_of(found)[0] == "product"
    assert len(found.context) < 400


def test_a_run_links_in_training_and_when_it_is_asked(train, shop, tmp_path, monkeypatch):
    import json

    from qc_experiments.cli import predict
    from qc_experiments.generation.saved import SavedPredictor

    rows = tmp_path / "rows.csv"
    rows.write_text(
        "question,query\n"
        + "".join(f"price of product {n}?,SELECT {n} FROM product\n" for n in range(6))
    )
    run = train(
        *("data=csv", f"data.train={rows}", f"data.databases={shop.place}", "data.linking=80"),
        *("trainer.max_steps=1", "evaluation.max_new_tokens=4"),
    )
    adapter = run.folder / "adapter"
    assert json.loads((adapter / "prompting.json").read_text())["linking"] == 80
    asked = []
    answer = SavedPredictor.answer
    monkeypatch.setattr(
        SavedPredictor,
        "answer",
        lambda self, rows, *rest: (asked.extend(rows), answer(self, rows, *rest))[1],
    )
    predict.main(
        ["--adapter", str(adapter), "--db", shop.place, "--question", "price of product 1?"]
    )
    assert asked[0].context == linked(shop, "price of product 1?", 80).context


@pytest.mark.parametrize("dialect", ["sqlite", "duckdb", "postgres"])
@pytest.mark.parametrize("columns", [1, 40])
def test_comments_stay_with_what_stays(dialect, columns):
    """Whether the table stays whole or is cut; SQLite has them in its statement alone."""
    inner = "name TEXT, -- in full\n" if dialect == "sqlite" else "name TEXT,"
    more = ", ".join(f"other_{n} INT" for n in range(columns))
    said = "COMMENT ON TABLE person IS 'who''s who'; COMMENT ON COLUMN person.name IS 'in full';"
    statements = f"CREATE TABLE person ({inner} {more}); {said if dialect != 'sqlite' else ''}"
    with SchemaReader(SchemaFormat.ddl, SchemaConfig(), 100) as reader:
        schema = reader.of_statements(f"{statements} {FILLER}", "it", dialect)
        found = reader.text_for(schema, "What is the name of each person?")
    assert ("other_39" in schema.text, "other_39" in found) == (columns == 40, False)
    (table,) = (one for one in read_ddl(found, dialect) if one.name == "person")
    if dialect == "sqlite":
        assert found.count("in full") == 1
    else:
        assert table.comment == "who's who"
        assert {one.name: one.comment for one in table.columns}["name"] == "in full"


@pytest.mark.parametrize("form", list(SchemaFormat))
def test_many_keys_count_as_well(tmp_path, form):
    path = tmp_path / "keys.sqlite"
    keys = ", ".join(f"part_{n} INTEGER REFERENCES part_{n}(id)" for n in range(20))
    parts = "".join(
        f"CREATE TABLE part_{n} (id INTEGER PRIMARY KEY, name TEXT);" for n in range(20)
    )
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript(f"{parts} CREATE TABLE whole (id INTEGER PRIMARY KEY, {keys});")
    row = linked(
        Databases(str(path)), "How many part_3 and part_4 does each whole have?", 500, form
    )
    assert len(row.context) <= CHARACTERS * 500


def test_a_question_costs_no_lines_but_those_of_the_keys_that_it_gets(monkeypatch):
    statements = "".join(
        f"CREATE TABLE t{n} (id INTEGER PRIMARY KEY, other INTEGER REFERENCES t{n // 2}(id));"
        for n in range(100)
    )
    made = []
    written = schema_text._reference
    monkeypatch.setattr(
        schema_text, "_reference", lambda *given: (made.append(given), written(*given))[1]
    )
    with SchemaReader(SchemaFormat.compact, SchemaConfig(), 100) as reader:
        schema = reader.of_statements(statements, "it")
        made.clear()
        text = reader.text_for(schema, "What other of t7?")
    assert 0 < text.count("=") <= len(made) < 20


def test_parts_of_tables_are_written_once_for_all_questions(monkeypatch):
    made = []
    written = linking.create_statement
    monkeypatch.setattr(
        linking, "create_statement", lambda *given: (made.append(given), written(*given))[1]
    )
    with SchemaReader(SchemaFormat.ddl, SchemaConfig(), 100) as reader:
        schema = reader.of_statements(SCHEMA.partition("INSERT")[0], "it")
        reader.text_for(schema, "What is the price of each product?")
        first = len(made)
        reader.text_for(schema, "What is the price of each product, and its title?")
    assert first > 10 > len(made) - first
