"""Perturbed databases: other rows, the same keys, types and constraints, and queries told apart."""

from __future__ import annotations

import csv
import hashlib
import os
import sqlite3
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from helpers.runs import ROOT

from qc_experiments.databases import perturbation
from qc_experiments.databases.perturbation import MAX_ROWS, RULES, STRENGTHS, perturbed_databases
from qc_experiments.errors import UserError

SPIDER = Path(os.environ.get("QC_SPIDER", ROOT.parent / "shared" / "data" / "spider"))

SHOP = """
CREATE TABLE city (city_id INTEGER PRIMARY KEY, town TEXT NOT NULL UNIQUE, area REAL);
CREATE TABLE customer (
    customer_id INTEGER PRIMARY KEY, name TEXT NOT NULL, age INTEGER NOT NULL, height REAL,
    phone TEXT, member_since INTEGER, street TEXT NOT NULL,
    city_id INTEGER NOT NULL REFERENCES city
);
CREATE TABLE "order" (
    order_id INTEGER PRIMARY KEY,
    customer_id INTEGER NOT NULL REFERENCES customer (customer_id),
    amount INTEGER NOT NULL CHECK (amount >= 0), paid INTEGER NOT NULL, state TEXT NOT NULL
);
CREATE INDEX by_amount ON "order" (amount);
CREATE VIEW adult AS SELECT * FROM customer WHERE age > 17;
"""


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    """24 customers of 8 cities, with 60 orders, full of coincidences."""
    path = tmp_path / "originals" / "shop.sqlite"
    path.parent.mkdir()
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript(SHOP)
        connection.executemany(
            "INSERT INTO city VALUES (?, ?, ?)", [(i, f"Town {i}", 10.5 * i) for i in range(1, 9)]
        )
        connection.executemany(
            "INSERT INTO customer VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            [
                # Nobody is 30 or 40; the older, the taller; only the young lack a phone.
                (i, f"Name {i}", age, 150.25 + age, None if age < 25 else f"0{i}", 2020,
                 f"Street {i}", 1 + i % 8)
                for i, age in enumerate([a for a in range(19, 46) if a % 10], 1)
            ],
        )  # fmt: skip
        connection.executemany(
            'INSERT INTO "order" VALUES (?, ?, ?, ?, ?)',
            [
                (i, customer, 5 * i + 3, 5 * i + 3, "sent" if i > 20 else "open")
                for i in range(1, 61)
                for customer in [1 + i % 24]
            ],
        )
        connection.commit()
    return path


def rows(path: Path, sql: str) -> list[tuple[object, ...]]:
    with closing(sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True)) as connection:
        connection.text_factory = bytes
        return connection.execute(sql).fetchall()


def schema(path: Path) -> list[tuple[object, ...]]:
    return sorted(rows(path, "SELECT type, name, tbl_name, coalesce(sql, '') FROM sqlite_master"))


def tables(path: Path) -> list[str]:
    """Quoted names of the tables that can be read."""
    found = rows(
        path,
        "SELECT name FROM sqlite_master WHERE type = 'table' AND sql NOT LIKE '%unheard_of%' "
        "ORDER BY name",
    )
    return ['"' + bytes(name).decode().replace('"', '""') + '"' for (name,) in found]


def content(path: Path) -> dict[str, list[tuple[object, ...]]]:
    return {table: rows(path, f"SELECT * FROM {table}") for table in tables(path)}


def types(path: Path, table: str) -> list[set[type]]:
    """The types that occur, by column; a text counts as a tuple, to be no blob."""
    with closing(sqlite3.connect(path)) as connection:
        connection.text_factory = lambda raw: (raw,)
        cells = connection.execute(f"SELECT * FROM {table}").fetchall()
    return [set(map(type, column)) for column in zip(*cells, strict=True)]


def broken_references(path: Path) -> Counter[object]:
    try:
        return Counter(row[0] for row in rows(path, "PRAGMA foreign_key_check"))
    except sqlite3.OperationalError as problem:  # a foreign key that no table could meet
        return Counter([str(problem)])


def assert_sound(original: Path, copy: Path) -> None:
    """What holds for a perturbed copy of any database."""
    assert schema(copy) == schema(original)
    assert rows(copy, "PRAGMA integrity_check") == [(b"ok",)]
    assert broken_references(copy) <= broken_references(original)
    for table in tables(original):
        ((before,),) = rows(original, f"SELECT count(*) FROM {table}")
        ((after,),) = rows(copy, f"SELECT count(*) FROM {table}")
        assert min(1, before) <= after <= before
        assert after >= before * 0.66 - 1
        for old, new in zip(types(original, table), types(copy, table), strict=True):
            assert new <= old


def test_perturbed_copies_have_a_folder_by_content_rules_and_seed_and_are_reused(shop, tmp_path):
    cache = tmp_path / "a" / "cache"
    made = perturbed_databases(shop, 3, 7, cache)
    (folder,) = cache.iterdir()
    assert folder.name.endswith(f"-{RULES}-s7")
    assert len(folder.name.split("-")[0]) == 16
    # A file is named after its index and its content, by which damage is seen.
    assert [file.stem.split("-")[0] for file in made] == ["0", "1", "2"]
    for file in made:
        assert hashlib.sha256(file.read_bytes()).hexdigest().startswith(file.stem.split("-")[1])
    assert sorted(folder.iterdir()) == made
    stamps = [file.stat().st_mtime_ns for file in made]
    assert perturbed_databases(shop, 2, 7, cache) == made[:2]
    assert len(perturbed_databases(shop, 4, 7, cache)) == 4
    assert [file.stat().st_mtime_ns for file in made] == stamps


def test_the_same_original_seed_and_index_give_the_same_rows(shop, tmp_path):
    one = [content(p) for p in perturbed_databases(shop, 4, 0, tmp_path / "one")]
    two = [content(p) for p in perturbed_databases(shop, 6, 0, tmp_path / "two")]
    assert one == two[:4]
    other = [content(p) for p in perturbed_databases(shop, 4, 1, tmp_path / "one")]
    everything = [content(shop), *two, *other]
    assert all(a != b for i, a in enumerate(everything) for b in everything[:i])


def test_another_process_with_other_hashes_makes_the_same_rows(shop, tmp_path):
    code = (
        "import sys; from pathlib import Path; "
        "from qc_experiments.databases.perturbation import perturbed_databases; "
        "perturbed_databases(Path(sys.argv[1]), 3, 0, Path(sys.argv[2]))"
    )
    for hashes in ("1", "2"):
        subprocess.run(
            [sys.executable, "-c", code, shop, tmp_path / hashes],
            env={**os.environ, "PYTHONHASHSEED": hashes},
            cwd=ROOT,
            check=True,
        )
    one, two = (perturbed_databases(shop, 3, 0, tmp_path / hashes) for hashes in ("1", "2"))
    assert [content(path) for path in one] == [content(path) for path in two]


def test_the_original_and_its_folder_stay_as_they_are(shop, tmp_path):
    with closing(sqlite3.connect(shop)) as connection:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("UPDATE customer SET age = age")
        connection.commit()
    before = shop.read_bytes()
    assert before[18:20] == b"\x02\x02"
    assert [p.name for p in shop.parent.iterdir()] == ["shop.sqlite"]
    made = perturbed_databases(shop, 2, 0, tmp_path / "cache")
    assert shop.read_bytes() == before
    assert [p.name for p in shop.parent.iterdir()] == ["shop.sqlite"]
    assert [file.read_bytes()[18:20] for file in made] == [b"\x01\x01"] * 2
    assert sorted(made[0].parent.iterdir()) == made


def test_rows_that_stand_in_the_write_ahead_log_only_count(shop, tmp_path):
    quiet = perturbed_databases(shop, 1, 0, tmp_path / "cache")
    with closing(sqlite3.connect(shop)) as connection:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("UPDATE city SET town = town || '!'")
        connection.commit()
        (busy,) = perturbed_databases(shop, 1, 0, tmp_path / "cache")
    assert busy != quiet[0]
    assert all(bytes(town).endswith(b"!") for (town,) in rows(busy, "SELECT town FROM city"))


def test_keys_types_constraints_and_references_stay_whole(shop, tmp_path):
    keys = {
        "city": "city_id, town",
        "customer": "customer_id, city_id",
        '"order"': "order_id, customer_id",
    }
    for copy in perturbed_databases(shop, 10, 0, tmp_path / "cache"):
        assert_sound(shop, copy)
        assert rows(copy, "PRAGMA foreign_key_check") == []
        for table, columns in keys.items():
            query = f"SELECT {columns} FROM {table}"
            assert Counter(rows(copy, query)) <= Counter(rows(shop, query))
        assert rows(copy, 'SELECT * FROM "order" WHERE amount < 0') == []


def test_later_copies_differ_more_and_null_comes_only_where_it_was(shop, tmp_path):
    made = perturbed_databases(shop, 5, 0, tmp_path / "cache")
    query = "SELECT customer_id, age, height, member_since FROM customer"
    kept = [len(set(rows(p, query)) & set(rows(shop, query))) for p in made]
    assert kept[0] > kept[1] > kept[2]
    names = ("age", "height", "phone", "member_since", "street", "name")
    lack = {
        name
        for p in made
        for name in names
        if rows(p, f"SELECT 1 FROM customer WHERE {name} IS NULL")
    }
    assert lack == {"phone"}


DIFFERENT = {
    "> and >=": (
        "SELECT name FROM customer WHERE age > 40",
        "SELECT name FROM customer WHERE age >= 40",
    ),
    "< and <=": (
        "SELECT count(*) FROM customer WHERE age < 30",
        "SELECT count(*) FROM customer WHERE age <= 30",
    ),
    "JOIN and LEFT JOIN": (
        'SELECT name FROM customer JOIN "order" USING (customer_id)',
        'SELECT name FROM customer LEFT JOIN "order" USING (customer_id)',
    ),
    "COUNT and COUNT DISTINCT": (
        "SELECT count(street) FROM customer",
        "SELECT count(DISTINCT street) FROM customer",
    ),
    "COUNT(*) and COUNT(x)": (
        "SELECT count(*) FROM customer WHERE age > 25",
        "SELECT count(phone) FROM customer WHERE age > 25",
    ),
    "the first of the order and all of the maximum": (
        "SELECT customer_id FROM customer ORDER BY age DESC LIMIT 1",
        "SELECT customer_id FROM customer WHERE age = (SELECT max(age) FROM customer)",
    ),
    "a column that has the same values": (
        'SELECT sum(amount) FROM "order"',
        'SELECT sum(paid) FROM "order"',
    ),
    "a column of the same order": (
        "SELECT customer_id FROM customer ORDER BY age DESC, customer_id LIMIT 5",
        "SELECT customer_id FROM customer ORDER BY height DESC, customer_id LIMIT 5",
    ),
    "a WHERE that all rows meet": (
        "SELECT count(*) FROM customer WHERE member_since = 2020",
        "SELECT count(*) FROM customer",
    ),
    "a condition that another one implies": (
        "SELECT count(*) FROM \"order\" WHERE amount > 150 AND state = 'sent'",
        'SELECT count(*) FROM "order" WHERE amount > 150',
    ),
    "UNION and UNION ALL": (
        "SELECT street FROM customer WHERE age < 30 UNION SELECT street FROM customer "
        "WHERE age > 30",
        "SELECT street FROM customer WHERE age < 30 UNION ALL SELECT street FROM customer "
        "WHERE age > 30",
    ),
    "GROUP BY a name and by the key": (
        "SELECT name, count(*) FROM customer GROUP BY name",
        "SELECT name, count(*) FROM customer GROUP BY customer_id",
    ),
    "a table that is not needed": (
        'SELECT count(DISTINCT customer_id) FROM "order"',
        "SELECT count(*) FROM customer",
    ),
}
ALIKE = {
    "NOT > and <=": (
        "SELECT name FROM customer WHERE NOT age > 40",
        "SELECT name FROM customer WHERE age <= 40",
    ),
    "a reference that is always met": (
        'SELECT amount FROM "order" JOIN customer USING (customer_id)',
        'SELECT amount FROM "order"',
    ),
    "COUNT(*) and COUNT of a key": (
        "SELECT count(*) FROM customer",
        "SELECT count(DISTINCT customer_id) FROM customer",
    ),
    "IN and EXISTS": (
        "SELECT town FROM city WHERE city_id IN (SELECT city_id FROM customer)",
        "SELECT town FROM city WHERE EXISTS (SELECT 1 FROM customer c "
        "WHERE c.city_id = city.city_id)",
    ),
    "a column that never lacks": (
        "SELECT count(street) FROM customer",
        "SELECT count(*) FROM customer",
    ),
    "a key by its name": (
        "SELECT DISTINCT town FROM city",
        "SELECT town FROM city",
    ),
}


def agrees(path: Path, pair: tuple[str, str]) -> bool:
    one, two = (Counter(rows(path, sql)) for sql in pair)
    return one == two


@pytest.mark.parametrize("pair", DIFFERENT.values(), ids=DIFFERENT)
def test_queries_that_mean_different_things_are_told_apart(shop, tmp_path, pair):
    assert agrees(shop, pair)
    made = perturbed_databases(shop, 10, 0, tmp_path / "cache")
    assert not all(agrees(copy, pair) for copy in made)


@pytest.mark.parametrize("pair", ALIKE.values(), ids=ALIKE)
def test_queries_that_mean_the_same_are_not_told_apart(shop, tmp_path, pair):
    made = perturbed_databases(shop, 10, 0, tmp_path / "cache")
    assert all(agrees(path, pair) for path in [shop, *made])


WEIRD = {
    "non-UTF-8 text and blobs": """
        CREATE TABLE t (a TEXT, b BLOB, c);
        INSERT INTO t VALUES ('x', x'00ff', 1), (CAST(x'4dfc6c' AS TEXT), x'', 'a' || char(0) || 'b'),
            ('y', NULL, 2.5), ('z', 'text', x'01'), ('w', x'02', NULL), ('v', x'03', 9e300);
        INSERT INTO t SELECT a, b, c FROM t; INSERT INTO t SELECT a, b, c FROM t;
    """,
    "WITHOUT ROWID": """
        CREATE TABLE t (k TEXT, n INTEGER, v INTEGER, PRIMARY KEY (n, k)) WITHOUT ROWID;
        INSERT INTO t VALUES ('a', 1, 10), ('b', 1, 20), ('c', 2, 30), ('d', 2, 40), ('e', 3, 50),
            (CAST(x'ff' AS TEXT), 3, 60), (x'ff', 3, 70);
    """,
    "generated columns": """
        CREATE TABLE t (id INTEGER PRIMARY KEY, a INTEGER, b INTEGER AS (a * 2) STORED,
            c INTEGER GENERATED ALWAYS AS (a + 1) VIRTUAL);
        CREATE TABLE u (a INTEGER, b INTEGER AS (a * 2) STORED UNIQUE, "in" REFERENCES t (a));
        INSERT INTO t (a) VALUES (1), (2), (3), (5), (8), (13);
        INSERT INTO u (a) VALUES (10), (20), (30), (50), (80), (130);
    """,
    "empty tables": """
        CREATE TABLE t (id INTEGER, a); CREATE TABLE one (b); INSERT INTO one VALUES (1);
    """,
    "declared types that lie": """
        CREATE TABLE t (a INTEGER, b DATE, c REAL, d TEXT, e DECIMAL(4, 2), f, g BOOL, h VARCHAR(1));
        INSERT INTO t VALUES ('many', 'today', 'n/a', 5, 2.5, 1, 'yes', 'long'),
            (9223372036854775807, 20200101, 1, '5', 3, 1.5, 0, x'00'),
            (2.5, 2.5, -0.0, '', 3.75, '1', 1, 7), (0, 0, 1e308, 'x', 1e15, x'31', 0, 'y'),
            (3, '2020-01-01', 2.25, 'y', 4.125, 2, 1, 'z');
    """,
    "foreign keys that name what is missing": """
        CREATE TABLE p (id INTEGER PRIMARY KEY, a TEXT, x);
        CREATE TABLE t (a REFERENCES nowhere, b REFERENCES p (lost), c REFERENCES p, d,
            FOREIGN KEY (d, c) REFERENCES p);
        INSERT INTO p VALUES (1, 'a', 1), (2, 'b', 2), (3, 'c', 3), (4, 'd', 4);
        INSERT INTO t VALUES (1, 2, 3, 4), (5, 6, 77, 8), (9, 10, 1, 12), (1, 1, 1, 1);
    """,
    "no declared keys": """
        CREATE TABLE pets (id, name, weight); CREATE TABLE visit (pet_id, day, cost);
        INSERT INTO pets VALUES (1, 'a', 3), (2, 'b', 4), (3, 'c', 5), (4, 'd', 6), (5, 'e', 7);
        INSERT INTO visit VALUES (1, 'm', 3.5), (1, 'd', 4.5), (2, 'm', 5.5), (4, 'w', 9.5);
    """,
    "composite keys and circles": """
        CREATE TABLE a (x, y, z, PRIMARY KEY (x, y), FOREIGN KEY (z, y) REFERENCES b (x, y));
        CREATE TABLE b (x, y, w, UNIQUE (y, x), FOREIGN KEY (x, y) REFERENCES a ON DELETE CASCADE);
        CREATE TABLE boss (n INTEGER PRIMARY KEY, above INTEGER REFERENCES boss, pay INTEGER);
        INSERT INTO a VALUES (1, 1, 1), (1, 2, 1), (2, 1, NULL), (2, 2, 2), (3, 1, NULL);
        INSERT INTO b VALUES (1, 1, 'p'), (1, 2, 'q'), (2, 2, 'r'), (2, 1, 's');
        INSERT INTO boss VALUES (1, NULL, 9), (2, 1, 8), (3, 1, 7), (4, 2, 6), (5, 2, 5), (6, 3, 4);
    """,
    "names": """
        CREATE TABLE "select" ("from" INTEGER, "a ""b"" c" TEXT, [c d] REAL, `e'f` TEXT, "Größe");
        CREATE TABLE "it's; -- ""here"" too" (rowid, _rowid_, v);
        CREATE TABLE hidden (rowid, _rowid_, oid, v);
        CREATE UNIQUE INDEX "odd ""name"" too" ON "select" ("from");
        INSERT INTO "select" VALUES (1, 'a', 1.5, 'x', 1), (2, 'b', 2.5, 'y', 2), (3, 'c', 3.5, 'z', 3);
        INSERT INTO "it's; -- ""here"" too" VALUES (1, 2, 3), (1, 2, 4), (1, 2, 5), (2, 3, 6);
        INSERT INTO hidden VALUES (1, 2, 3, 4), (1, 2, 3, 5);
    """,
    "virtual tables": """
        CREATE TABLE doc (id INTEGER PRIMARY KEY, body TEXT, size INTEGER);
        CREATE VIRTUAL TABLE found USING fts5 (body);
        CREATE VIRTUAL TABLE area USING rtree (id, low, high);
        INSERT INTO doc VALUES (1, 'one two', 3), (2, 'three', 5), (3, 'four five', 8);
        INSERT INTO found SELECT body FROM doc;
        INSERT INTO area VALUES (1, 0, 1), (2, 1, 2);
        PRAGMA writable_schema = ON;
        INSERT INTO sqlite_master
            VALUES ('table', 'ghost', 'ghost', 0, 'CREATE VIRTUAL TABLE ghost USING unheard_of (x)');
        PRAGMA writable_schema = OFF;
    """,
    "triggers": """
        CREATE TABLE t (id INTEGER PRIMARY KEY AUTOINCREMENT, a INTEGER, b TEXT);
        CREATE TABLE log (what TEXT);
        CREATE TRIGGER "on change" AFTER UPDATE ON t BEGIN INSERT INTO log VALUES (new.b); END;
        CREATE TRIGGER never BEFORE DELETE ON t BEGIN SELECT raise(ABORT, 'never'); END;
        CREATE VIEW v AS SELECT a FROM t;
        CREATE TRIGGER instead INSTEAD OF INSERT ON v BEGIN INSERT INTO missing VALUES (1); END;
        INSERT INTO t (a, b) VALUES (1, 'a'), (2, 'b'), (3, 'c'), (4, 'd'), (5, 'e'), (6, 'f');
        INSERT INTO log VALUES ('none');
    """,
    "constraints": """
        CREATE TABLE t (low INTEGER CHECK (low < high), high INTEGER, e TEXT NOT NULL ON CONFLICT IGNORE,
            k INTEGER UNIQUE ON CONFLICT REPLACE, CHECK (e IN ('p', 'q')));
        CREATE TABLE s (n INT, r REAL, t TEXT, x ANY) STRICT;
        CREATE UNIQUE INDEX half ON t (high) WHERE low > 2;
        CREATE UNIQUE INDEX sum ON t (low + high);
        INSERT INTO t VALUES (1, 2, 'p', 1), (2, 4, 'q', 2), (3, 6, 'p', 3), (4, 9, 'q', 4), (5, 11, 'p', 5);
        INSERT INTO s VALUES (1, 1.5, 'a', 1), (2, 2.0, 'b', 'x'), (3, 3.5, 'c', x'00'), (4, 4, 'd', 1.5);
    """,
    "UTF-16": """
        PRAGMA encoding = 'UTF-16le';
        CREATE TABLE t (a TEXT, b TEXT); INSERT INTO t VALUES ('ä', 'b'), ('€', 'd'), ('𝄞', 'f'), ('g', 'h');
    """,
    "nothing": "",
}  # fmt: skip


@pytest.fixture
def build(tmp_path: Path) -> Callable[[str], Path]:
    def make(script: str) -> Path:
        path = tmp_path / "weird.sqlite"
        with closing(sqlite3.connect(path)) as connection:
            connection.executescript(script)
        return path

    return make


@pytest.mark.parametrize("script", WEIRD.values(), ids=WEIRD)
def test_weird_schemas_survive(build, tmp_path, script):
    path = build(script)
    before = path.read_bytes()
    made = perturbed_databases(path, 10, 3, tmp_path / "cache")
    again = perturbed_databases(path, 10, 3, tmp_path / "again")
    for one, two in zip(made, again, strict=True):
        assert_sound(path, one)
        assert content(one) == content(two)
    assert path.read_bytes() == before
    assert any(content(one) != content(path) for one in made) == bool(script)


def test_text_that_is_no_utf_8_stays_text(build, tmp_path):
    path = build(WEIRD["non-UTF-8 text and blobs"] + "DELETE FROM t WHERE hex(a) != '4DFC6C'")
    for copy in perturbed_databases(path, 5, 0, tmp_path / "cache"):
        assert set(rows(copy, "SELECT hex(a), typeof(a) FROM t")) == {(b"4DFC6C", b"text")}


def test_no_trigger_fires(build, tmp_path):
    path = build(WEIRD["triggers"])
    for copy in perturbed_databases(path, 5, 0, tmp_path / "cache"):
        assert rows(copy, "SELECT * FROM log") == [(b"none",)]


def test_virtual_tables_stay_as_they_are(build, tmp_path):
    path = build(WEIRD["virtual tables"])
    for copy in perturbed_databases(path, 5, 0, tmp_path / "cache"):
        old, new = content(path), content(copy)
        assert {name for name in old if old[name] != new[name]} <= {'"doc"'}
        assert rows(copy, "SELECT * FROM found ('four')") == [(b"four five",)]


def test_references_hold_that_only_names_tell_of(build, tmp_path):
    path = build(WEIRD["no declared keys"])
    for copy in perturbed_databases(path, 10, 0, tmp_path / "cache"):
        assert not rows(copy, "SELECT * FROM visit WHERE pet_id NOT IN (SELECT id FROM pets)")


def test_columns_that_share_name_and_values_stay(build, tmp_path):
    path = build(
        "CREATE TABLE a (k, code TEXT, label TEXT); CREATE TABLE b (k, CODE TEXT, label TEXT);"
        "WITH n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 30)"
        "INSERT INTO a SELECT i, 'c' || (i % 7), 'a' || i FROM n;"
        "INSERT INTO b SELECT k, code, 'b' || k FROM a"
    )
    for copy in perturbed_databases(path, 5, 0, tmp_path / "cache"):
        for table in ("a", "b"):
            keys, labels = f"SELECT k, code FROM {table}", f"SELECT k, label FROM {table}"
            assert set(rows(copy, keys)) <= set(rows(path, keys))
            assert not set(rows(copy, labels)) <= set(rows(path, labels))


def test_of_a_large_table_only_a_sample_changes(build, tmp_path):
    path = build(
        "CREATE TABLE t (id INTEGER PRIMARY KEY, a INTEGER);"
        "WITH n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 60000)"
        "INSERT INTO t SELECT i, i * 7 FROM n"
    )
    (copy,) = perturbed_databases(path, 1, 0, tmp_path / "cache")
    change, delete = STRENGTHS[0]
    ((left, same),) = rows(copy, "SELECT count(*), sum(a = id * 7) FROM t")
    assert 60_000 - left == pytest.approx(delete * MAX_ROWS, abs=1)
    assert left - same == pytest.approx(change * MAX_ROWS, rel=0.1)


def test_nothing_half_written_stays(shop, tmp_path, monkeypatch):
    def fail(*args):
        raise sqlite3.OperationalError("disk full")

    monkeypatch.setattr(perturbation, "_change_rows", fail)
    with pytest.raises(sqlite3.OperationalError, match="disk full"):
        perturbed_databases(shop, 3, 0, tmp_path / "cache")
    assert [p for p in (tmp_path / "cache").rglob("*") if not p.is_dir()] == []
    monkeypatch.undo()
    assert len(perturbed_databases(shop, 3, 0, tmp_path / "cache")) == 3


def test_what_is_no_database_is_an_error(tmp_path):
    path = tmp_path / "notes.sqlite"
    path.write_text("no database at all" * 100)
    with pytest.raises(sqlite3.DatabaseError):
        perturbed_databases(path, 1, 0, tmp_path / "cache")
    with pytest.raises(UserError, match=r"none\.sqlite: cannot be read"):
        perturbed_databases(tmp_path / "none.sqlite", 1, 0, tmp_path / "cache")


@pytest.mark.skipif(not (SPIDER / "dev.csv").is_file(), reason="Spider is not at hand")
def test_spiders_databases_have_copies_on_which_every_gold_runs(tmp_path):
    with (SPIDER / "dev.csv").open(encoding="utf-8", newline="") as file:
        golds = {(row["db_id"], row["query"]) for row in csv.DictReader(file)}
    others = 0
    for db_id in sorted({db_id for db_id, _ in golds}):
        path = SPIDER / "database" / db_id / f"{db_id}.sqlite"
        made = perturbed_databases(path, 2, 0, tmp_path)
        for copy in made:
            assert_sound(path, copy)
        queries = [query for other, query in golds if other == db_id]
        others += sum(any(rows(path, q) != rows(p, q) for p in made) for q in queries)
    assert others > len(golds) / 2
