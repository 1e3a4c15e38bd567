"""A user's own engine: a module that is no part of the package, named in the config or by --engine."""

from __future__ import annotations

import csv
import os
import re
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import ModuleType

import pytest

from qc_experiments.cli.data import main as data_main
from qc_experiments.cli.evaluate import main as evaluate_main
from qc_experiments.data.table import Row
from qc_experiments.databases.engine import Limits, call_of
from qc_experiments.databases.engine import engine as engine_of
from qc_experiments.databases.locate import Database, Databases, find_databases
from qc_experiments.databases.pool import SqlPool
from qc_experiments.errors import UserError
from qc_experiments.judging.judge import Judge

ENGINE = '''
"""SQL on CSV files: each is a table of its own."""

import csv
import sqlite3
import time
from contextlib import closing
from decimal import Decimal
from pathlib import Path

from qc_experiments.databases.engine import Execution
from qc_experiments.databases.sqlite import SCHEMA_QUERY, run_query
from csv_helper import TABLE

DIALECT = "sqlite"
SUFFIX = ".csv"
ENVIRONMENT = ("CSV_",)
__all__ = ["SCHEMA_QUERY"]


def run(target, sql, limits):
    if sql == "SELECT stuck":
        time.sleep(60)
    if sql == "SELECT broken":
        raise RuntimeError("the engine broke")
    if sql == "SELECT leave":
        raise SystemExit(3)
    if sql == "SELECT rows":
        return [(1,)]
    if sql == "SELECT object":
        return Execution([(Decimal(1),)], ("a",))
    with Path(target).open(newline="") as file, closing(sqlite3.connect(":memory:")) as connection:
        header, *rows = csv.reader(file)
        connection.execute(f"CREATE TABLE {TABLE} ({', '.join(header)})")
        marks = ", ".join("?" * len(header))
        connection.executemany(f"INSERT INTO {TABLE} VALUES ({marks})", rows)
        return run_query(connection, sql, limits)
'''


@pytest.fixture
def engine(tmp_path: Path, monkeypatch) -> str:
    code = tmp_path / "code" / "my_package"
    code.mkdir(parents=True)
    (code / "__init__.py").touch()
    (code / "my_engine.py").write_text(ENGINE)
    (tmp_path / "code" / "csv_helper.py").write_text("TABLE = 'author'")
    monkeypatch.syspath_prepend(str(tmp_path / "code"))
    for name in ("my_package", "my_package.my_engine", "csv_helper"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    return "my_package.my_engine"


@pytest.fixture
def place(tmp_path: Path) -> Path:
    folder = tmp_path / "databases" / "shop"
    folder.mkdir(parents=True)
    (folder / "shop.csv").write_text("id,name\n1,Ada\n2,Bob\n")
    return folder.parent


def test_it_judges_in_children_that_are_killed(engine, place):
    queries = {
        "SELECT name FROM author ORDER BY id DESC": ("correct", None),
        "SELECT name FROM author": ("wrong", "wrong_order"),
        "DROP TABLE author": ("wrong", "forbidden"),
        "SELECT broken": ("wrong", "other"),
        "SELECT object": ("wrong", "other"),
        "SELECT leave": ("wrong", "other"),
        "SELECT rows": ("wrong", "other"),
        "SELECT stuck": ("wrong", "timeout"),
    }
    rows = [Row(2, "q", "SELECT name FROM author ORDER BY id DESC", "", "shop")] * len(queries)
    started = time.monotonic()
    with Judge(Databases(str(place), engine), Limits(2), cache=None, processes=1) as judge:
        found = judge.judge(rows, list(queries))
    assert [(one.verdict, one.error_class) for one in found] == list(queries.values())
    assert found[3].error == f"engine {engine}: RuntimeError: the engine broke"
    assert "decimal.Decimal" in (found[4].error or "")
    assert found[5].error == f"engine {engine}: SystemExit: 3"
    assert found[6].error == f"engine {engine}: run() gave list, not an Execution"
    assert time.monotonic() - started < 50


def test_commands_take_it(engine, place, tmp_path, capsys):
    source = tmp_path / "p.csv"
    source.write_text(
        "db_id,question,query,prediction\nshop,q,SELECT id FROM author,SELECT id FROM author\n"
    )
    options = ["--databases", str(place), "--engine", engine]
    evaluate_main([str(source), *options, "--output", str(tmp_path / "out")])
    with (tmp_path / "out" / "judged.csv").open(newline="") as file:
        assert [row["correct"] for row in csv.DictReader(file)] == ["1"]
    capsys.readouterr()
    data_main(["context", str(place / "shop" / "shop.csv"), "--engine", engine])
    assert capsys.readouterr().out == "CREATE TABLE author (id, name);\n"


def test_a_config_of_ones_own_names_it(engine, place, tmp_path, tiny_model):
    rows = "".join(f"q{n},SELECT id FROM author,CREATE TABLE author(id),shop\n" for n in range(20))
    (tmp_path / "it.csv").write_text(f"question,query,context,db_id\n{rows}")
    (tmp_path / "conf" / "data").mkdir(parents=True)
    (tmp_path / "conf" / "data" / "mine.yaml").write_text(
        f"train: {tmp_path / 'it.csv'}\ndatabases: {place}\nengine: {engine}\n"
    )
    command = [
        *(sys.executable, "-m", "qc_experiments", "plan", "--config-dir", str(tmp_path / "conf")),
        *("data=mine", "model=hub", f"model.name_or_path={tiny_model}", f"paths.output={tmp_path}"),
    ]
    environment = os.environ | {"PYTHONPATH": str(tmp_path / "code")}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "18 to train on, 2 held out" in done.stdout


def test_what_it_holds_is_told_from_another_engines(engine, place):
    path = str(place / "shop" / "shop.csv")
    assert Database(engine, path).content_hash().startswith(f"{engine} ")
    assert Database("sqlite", path).content_hash() in Database(engine, path).content_hash()


def test_what_a_server_holds_is_asked_once_in_a_run(tmp_path, monkeypatch):
    (tmp_path / "my_servers").mkdir()
    (tmp_path / "my_servers" / "mine.py").write_text(
        "SCHEMES, DIALECT, SCHEMA_QUERY = ('mine',), 'sqlite', 'SELECT 1'\n"
        "import time\nrun, hashes = print, iter(('before', 'after'))\n"
        "def content_hash(url):\n    time.sleep(0.02)\n    return next(hashes)\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    seen = []
    for _ in range(2):
        databases = Databases("mine://host/{db_id}", "my_servers.mine")
        with ThreadPoolExecutor(2) as threads:
            found = [databases.find("shop") for _ in range(2)]
            asked = set(threads.map(Database.content_hash, found))
        seen.append(asked.pop().rpartition(" ")[2])
        assert not asked
    assert seen == ["before", "after"]


def test_files_that_a_url_names_are_looked_for_where_the_command_was_typed(tmp_path, monkeypatch):
    (tmp_path / "my_place.py").write_text(
        "import os\nfrom qc_experiments.databases.engine import Execution\n"
        "SCHEMES, DIALECT, SCHEMA_QUERY, content_hash = 'mine', 'sqlite', 'SELECT 1', str\n"
        "def run(target, sql, limits):\n    return Execution([(os.getcwd(),)], ('a',))\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.chdir(tmp_path)
    with SqlPool(1) as pool:
        assert pool.run("my_place", "mine://host/x", "", Limits()).rows == [
            (str(tmp_path.resolve()),)
        ]


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("oracle", "there is no engine oracle: give sqlite, duckdb, postgresql, or the full name"),
        ("sqlit", "there is no engine sqlit (did you mean sqlite?): give"),
        (
            "my_package.none",
            "engine my_package.none cannot be loaded (ModuleNotFoundError: No module",
        ),
        ("my_package.none", "is its folder on PYTHONPATH?"),
        ("os.path", "cannot be loaded: it lacks DIALECT, SCHEMA_QUERY, SUFFIX (or SCHEMES), run()"),
    ],
)
def test_what_is_no_engine_is_said(engine, place, name, said):
    with pytest.raises(UserError) as caught:
        find_databases(str(place), "data.databases", name)
    assert said in str(caught.value)


CONSTANTS = {"DIALECT": "sqlite", "SCHEMA_QUERY": "SELECT 1", "SUFFIX": ".x", "run": print}


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"SUFFIX": "x"}, "its SUFFIX 'x' must begin with a dot"),
        ({"SUFFIX": ""}, "it lacks SUFFIX (or SCHEMES)"),
        ({"SCHEMES": "mydb"}, "it lacks content_hash()"),
        ({"run": None}, "it lacks run()"),
        ({"SCHEMA_QUERY": ""}, "it lacks SCHEMA_QUERY"),
        ({"DIALECT": "sqlit"}, "its DIALECT: Unknown dialect 'sqlit'"),
        ({"ENVIRONMENT": ""}, "its ENVIRONMENT must be a tuple of texts, none of them empty"),
        ({"LOGS": 5}, "its LOGS must be a tuple of texts"),
    ],
)
def test_what_an_engine_lacks_is_said(monkeypatch, changed, said):
    module = ModuleType("lacking_engine")
    vars(module).update(CONSTANTS | changed)
    monkeypatch.setitem(sys.modules, "lacking_engine", module)
    engine_of.cache_clear()
    with pytest.raises(
        UserError, match=re.escape(f"engine lacking_engine cannot be loaded: {said}")
    ):
        engine_of("lacking_engine")


def test_a_text_in_place_of_a_tuple_is_one_prefix(monkeypatch):
    module = ModuleType("top_level_engine")
    vars(module).update(CONSTANTS | {"ENVIRONMENT": "MYDB", "LOGS": "-wal", "SCHEMES": "mydb"})
    vars(module)["content_hash"] = str
    monkeypatch.setitem(sys.modules, "top_level_engine", module)
    monkeypatch.setenv("MYDB_PASSWORD", "needed")
    monkeypatch.setenv("MY_TOKEN", "secret")
    engine_of.cache_clear()
    found = engine_of("top_level_engine")
    assert (found.environment, found.logs, found.schemes) == (("MYDB",), ("-wal",), ("mydb",))
    call = call_of("top_level_engine", "mydb://there", "SELECT 1", Limits())
    assert call.environment == {"MYDB_PASSWORD": "needed"}


def test_an_engine_that_leaves_as_it_is_imported_is_said(tmp_path, monkeypatch):
    (tmp_path / "leaving_engine.py").write_text("raise SystemExit(1)")
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(UserError, match=r"cannot be loaded \(SystemExit: 1\)$"):
        engine_of("leaving_engine")
