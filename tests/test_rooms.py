"""The rooms of the house: each imports only from rooms below it, so that no two import each other."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import qc_experiments

PACKAGE = Path(qc_experiments.__file__).parent
ROOMS = (  # from the top down; docs/explanation/architecture.md says what each is for
    "cli",
    "sweeps",
    "comparison",
    "runs",
    "export",
    "inspection",
    "training",
    "tracking",
    "evaluation",
    "generation",
    "collators",
    "packing",
    "models",
    "judging",
    "data",
    "databases",
    "records",
    "config",
    "sql",
    "system",
)
LOOSE = {"__init__", "__main__", "errors"}
WITHOUT_CODE = {"demo", "conf"}


def imports(path: Path) -> list[str]:
    """Dotted names below the package that a file imports, inside its functions as well."""
    found = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module == "qc_experiments":
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("qc_experiments."):
            found.append((node.module or "").removeprefix("qc_experiments."))
        elif isinstance(node, ast.Import):
            found += [
                alias.name.removeprefix("qc_experiments.")
                for alias in node.names
                if alias.name.startswith("qc_experiments.")
            ]
    return found


def test_every_module_stands_in_a_room() -> None:
    """A loose module belongs to nobody."""
    rooms = {path.parent.name for path in PACKAGE.glob("*/*.py")} - WITHOUT_CODE
    assert rooms == set(ROOMS)
    assert {path.stem for path in PACKAGE.glob("*.py")} == LOOSE


def test_rooms_import_only_from_rooms_below() -> None:
    """Which also means that no two import each other."""
    upward = []
    for room in ROOMS:
        below = ROOMS[ROOMS.index(room) :]
        for path in (PACKAGE / room).rglob("*.py"):
            for name in imports(path):
                other = name.split(".")[0]
                if other in ROOMS and other not in below:
                    upward.append(f"{path.relative_to(PACKAGE)} imports {name}")
    assert upward == []


def test_tests_mirror_the_rooms_and_import_no_other_test() -> None:
    """What tests share stands in tests/helpers."""
    tests = Path(__file__).parent
    folders = {path.parent.relative_to(tests).parts[0] for path in tests.glob("*/**/test_*.py")}
    assert folders <= set(ROOMS)
    for path in tests.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom):
                assert not (node.module or "").startswith(("test_", "conftest")), path


def test_the_page_and_the_drawing_show_the_rooms_in_their_order() -> None:
    """docs/explanation/architecture.md and its picture are what an engineer reads first."""
    docs = PACKAGE.parent / "docs"
    drawing = (docs / "images/rooms.svg").read_text(encoding="utf-8")
    assert tuple(re.findall(r'class="room">(\w+)<', drawing)) == ROOMS
    page = (docs / "explanation/architecture.md").read_text(encoding="utf-8")
    assert tuple(re.findall(r"^\| `(\w+)` \|", page, re.MULTILINE)) == ROOMS


MOST_LINES, MOST_IN_FUNCTION, MOST_PARAMETERS = 350, 60, 6
GIVEN_BY_OTHERS = {"_attend"}
"""Functions whose parameters a library chooses."""


def test_modules_and_functions_stay_small() -> None:
    """The limits that CONTRIBUTING names."""
    large = []
    for path in PACKAGE.rglob("*.py"):
        text = path.read_text(encoding="utf-8")
        if len(text.splitlines()) > MOST_LINES:
            large.append(f"{path.name}: {len(text.splitlines())} lines")
        for node in ast.walk(ast.parse(text)):
            if not isinstance(node, ast.FunctionDef) or node.name in GIVEN_BY_OTHERS:
                continue
            given = [one.arg for one in (*node.args.args, *node.args.kwonlyargs)]
            count = len(given) - (given[:1] in (["self"], ["cls"]))
            if node.name != "__init__" and count > MOST_PARAMETERS:
                large.append(f"{path.name}: {node.name} takes {count} parameters")
            lines = (node.end_lineno or node.lineno) - node.lineno + 1
            if lines > MOST_IN_FUNCTION:
                large.append(f"{path.name}: {node.name} has {lines} lines")
    assert large == []
