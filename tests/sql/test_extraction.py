"""The SQL of an answer: freed of fences, prose and what follows it; nothing inside is touched."""

from __future__ import annotations

import csv
import random
import time
from importlib.resources import files
from pathlib import Path

import pytest

from qc_experiments.config.schema import DataConfig
from qc_experiments.data.template import read_template
from qc_experiments.sql.extraction import answer_complete, extract_sql, first_statement, holds_sql
from qc_experiments.system.paths import resolve_path

DEMO = Path(str(files("qc_experiments.demo")))
SHIPPED = sorted(resolve_path(DataConfig().template, "data.template").parent.glob("*.txt"))


def gold_queries() -> list[str]:
    found = []
    for name in ("train.csv", "validation.csv"):
        with (DEMO / name).open(encoding="utf-8", newline="") as file:
            found += [row["query"] for row in csv.DictReader(file)]
    assert len(found) > 500
    return found


GOLD = gold_queries()
DIFFICULT = [
    "SELECT ';' FROM t",
    "SELECT 'it''s; fine' AS \"a;b\", [c;d], `e;f` FROM t",
    "SELECT a -- first; then\nFROM t",
    "SELECT a /* one; two */ FROM t",
    "SELECT '```' FROM t",
    "SELECT 'select 1; select 2'",
    "WITH x AS (SELECT 1)\nSELECT *\n  FROM x",
    "select a from t where b like '%--;%'",
    "SELECT CASE WHEN a THEN 'x;' END FROM t",
    "VALUES (1, ';')",
]


def test_every_gold_query_of_the_demo_is_left_as_it_is():
    assert [extract_sql(query) for query in GOLD] == GOLD


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_a_learned_answer_gives_its_query_back(path):
    template = read_template(path)
    for query in GOLD:
        assert extract_sql(template.completion(query), template.after_query()) == query


@pytest.mark.parametrize("query", DIFFICULT)
@pytest.mark.parametrize(
    "answer",
    [
        "{}",
        "  {}\n\n",
        "{};",
        "{} ;\n",
        "{}; SELECT 2; SELECT 3",
        "{};\n\nThis query's result; it lists 'names'.",
        "{};\n```sql\nSELECT 2\n```",
        "{};\nQuestion: Which?\nSQL: SELECT 2;",
    ],
)
def test_an_answer_that_begins_with_sql_is_read_to_the_end_of_its_statement(query, answer):
    assert extract_sql(answer.replace("{}", query)) == query


@pytest.mark.parametrize("query", [query for query in DIFFICULT if "```" not in query])
@pytest.mark.parametrize(
    "answer",
    [
        "```sql\n{}\n```",
        "```\n{};\n```",
        "```SQL\n{}",
        "```sql {}```",
        "Here is the query; it counts:\n```sql\n{};\n```\nIt uses `t`.",
        "Sure!\n\n```sqlite\n{}\n```\nor\n```sql\nSELECT 2\n```",
        "```sql\n{};\nSELECT 2;\n```",
    ],
)
def test_otherwise_the_first_code_fence_holds_the_sql(query, answer):
    assert extract_sql(answer.replace("{}", query)) == query


@pytest.mark.parametrize(
    "answer",
    [
        "With pleasure:\n```sql\nSELECT a FROM t;\n```",
        "```SELECT a FROM t```",
        "````sql\nSELECT a FROM t\n````",
        "Select all of a:\n```sql\nSELECT a FROM t\n```",
        "Update: the query is\n```sql\nSELECT a FROM t\n```",
        "SELECT a FROM t\n```",
        "SELECT a FROM t\n```\nThis reads the table.",
        "`SELECT a FROM t`",
        "The answer is `SELECT a FROM t`, of the table `t`.",
        "A `SELECT` of all rows: SELECT a FROM t",
        "Of `t` take the column `a`:\nSELECT a FROM t",
    ],
)
def test_fences_and_prose_as_chat_models_write_them(answer):
    assert extract_sql(answer) == "SELECT a FROM t"


@pytest.mark.parametrize(
    ("prose", "query"),
    [
        ("Here it is:\n", "(SELECT a FROM t)\nUNION\nSELECT b FROM t"),
        ("Here it is\n", "(\n  SELECT a FROM t\n)\nUNION\nSELECT b FROM t"),
        ("Here it is: ", "( -- first\nSELECT a FROM t\n)\nUNION\nSELECT b FROM t"),
        ("Here it is:\n-- Step 1: select all\n", "SELECT a FROM t"),
        ("With pyjamas in mind:\n", "SELECT a FROM t"),
        ("With \u201cpet\u201d as the table:\n", "SELECT a FROM t"),
        ("From the tables above we need:\n", "SELECT a FROM t"),
        ("From the schema, let's take the second\n", "SELECT a FROM t"),
        ("From t:\n", "SELECT 1"),
        ("From t\n", "SELECT a FROM t UNION SELECT 1"),
        ("From the question it follows.\n", "SELECT 1"),
    ],
)
def test_a_query_after_prose_is_taken_whole(prose, query):
    assert extract_sql(prose + query) == query
    assert not answer_complete(f"{prose}{query};")


@pytest.mark.parametrize(
    "line",
    [
        *("WITH /*\n", "WITH --\n", "WITH [a\n", "WITH a (\n", "WITH कु", "कु"),
        *(":/*", ":--", ":(", "( /*\n", "((/**/\n", "\n", "/**/"),
    ],
)
@pytest.mark.parametrize("before", ["Here: ", "FROM "])
def test_no_text_of_many_lines_takes_for_ever(before, line):
    text = f"{before}{line * (100_000 // len(line))}."
    start = time.process_time()
    extract_sql(text)
    answer_complete(text)
    assert time.process_time() - start < 10  # it is below one


@pytest.mark.parametrize(
    ("answer", "after_query"),
    [
        ("SELECT ';', a FROM t\n```\nand so on", "\n```"),
        ("SELECT ';', a FROM t </answer> and so on", "</answer>"),
        ("SELECT ';', a FROM t\n\nQuestion: Which?", "\n\nQuestion:"),
        ("SELECT ';', a FROM t", "\n```"),
        ("SELECT ';', a FROM t; SELECT 2\n```", "\n```"),
        ("SELECT ';', a FROM t;", ";"),
        ("SELECT ';', a FROM t; SELECT 2;", ";"),
    ],
)
def test_an_answer_ends_at_the_templates_closing_text(answer, after_query):
    assert extract_sql(answer, after_query) == "SELECT ';', a FROM t"


@pytest.mark.parametrize("text", ["", " \n", ";", "```", "```sql\n```", "``````"])
def test_an_answer_without_sql_gives_an_empty_text(text):
    assert extract_sql(text) == ""


@pytest.mark.parametrize("text", ["I do not know.", "42", "<unk>"])
def test_an_answer_in_words_stays_what_it_is(text):
    """It is no query, and judging will say so."""
    assert extract_sql(text) == text


@pytest.mark.parametrize("text", ["SELECT '\0'; x", "SELECT 1\0; x", "SELECT '\ufffd'; x", "\0;"])
def test_no_character_that_a_model_can_write_ends_a_run(text):
    answer_complete(text)
    assert extract_sql(text + "SELECT 2") == extract_sql(text)


@pytest.mark.parametrize(
    "query",
    [
        'WITH "top customers" AS (\n  SELECT id FROM c\n)\nSELECT * FROM "top customers"',
        "WITH [top customers] AS (\nSELECT 1\n) SELECT 2",
        "(\nSELECT a FROM t\n)\nUNION\nSELECT b FROM t",
        "((SELECT a FROM t) EXCEPT\nSELECT b FROM t)",
        "WITH\n-- totals; per customer\nt AS (\n  SELECT a FROM x\n)\nSELECT * FROM t",
        "WITH /* c */ t (a) /* as */ AS (\nSELECT 1\n) SELECT * FROM t",
        "WITH RECURSIVE -- c\nt AS (\nSELECT 1\n) SELECT * FROM t",
        "WITH कुत्ते AS (\nSELECT 1\n) SELECT * FROM कुत्ते",
        "WITH a$b AS (\nSELECT 1\n) SELECT * FROM a$b",
        "(\n-- first part\nSELECT a FROM t\n)\nUNION\nSELECT b FROM t",
        "( /* first */ (\nSELECT a FROM t\n))\nUNION\nSELECT b FROM t",
        "FROM pet\nSELECT name WHERE id = 1",
        "FROM pet p LEFT JOIN owner o ON p.owner = o.id\nSELECT extract(year FROM born)",
        "FROM pet WHERE id IN (\nSELECT id FROM visit\n)\nSELECT name",
        "FROM pet\nSELECT name WHERE id IS DISTINCT FROM 1\nUNION\nFROM owner\nSELECT name",
        "(FROM pet SELECT name)",
    ],
)
@pytest.mark.parametrize(
    "comment",
    [
        "",
        "-- Step 1: select the customers\n",
        "/* We\nselect the rows: */\n",
        "-- a\n/* b **/ -- c;\n",
    ],
)
def test_lines_within_a_query_and_comments_before_it_are_no_other_query(query, comment):
    assert extract_sql(f"{comment}{query}; SELECT 3") == query
    assert answer_complete(f"{comment}{query};")
    assert not answer_complete(f"{comment}{query}")


def test_half_of_an_emoji_which_servers_leave_of_one_ends_no_run():
    text = "SELECT 1 AS '\ud83d'; x"
    assert answer_complete(text)
    assert extract_sql(text) == "SELECT 1 AS '\N{REPLACEMENT CHARACTER}'"


@pytest.mark.parametrize("query", DIFFICULT + GOLD[:20])
def test_an_answer_is_complete_with_its_semicolon_and_not_before(query):
    for place in range(len(query) + 1):
        assert not answer_complete(query[:place])
    assert answer_complete(query + ";")
    assert answer_complete("\n " + query + "; ")


@pytest.mark.parametrize(
    ("text", "complete"),
    [
        ("", False),
        ("```sql\nSELECT 1;", False),
        ("```sql\nSELECT 1;\n``", False),
        ("```sql\nSELECT 1;\n```", True),
        ("Here; it is:\n```sql\nSELECT 1", False),
        ("Here; it is", False),
    ],
)
def test_an_answer_in_a_fence_is_complete_when_the_fence_closes(text, complete):
    assert answer_complete(text) is complete


PIECES = [
    *("SELECT ", "select", "WITH ", "EXPLAIN ", "CREATE TEMP TRIGGER t BEGIN ", "END", "VALUES"),
    *(
        ";",
        "; ",
        ";;",
        "'",
        '"',
        "`",
        "``",
        "```",
        "```sql\n",
        "--",
        "/*",
        "*/",
        "[",
        "]",
        "(",
        ")",
    ),
    *("\n", " ", "\t", "a", "1", "é", "🙂", "Here is it: ", "</s>"),
]


@pytest.mark.parametrize("after_query", ["", "\n```", "</s>", "\n\nQuestion:"])
def test_a_complete_answer_stays_the_same_whatever_is_still_written(after_query):
    """Generation stops there; going on must not have led to another query."""
    draw = random.Random(0)
    complete = 0
    for _ in range(20_000):
        start = draw.choice(["", "SELECT ", "SELECT ", "```sql\n"])
        prefix = start + "".join(draw.choices(PIECES, k=draw.randint(1, 10)))
        if answer_complete(prefix):
            complete += 1
            whole = prefix + "".join(draw.choices(PIECES, k=draw.randint(0, 8)))
            assert answer_complete(whole)
            assert extract_sql(prefix, after_query) == extract_sql(whole, after_query), (
                prefix,
                whole,
            )
    assert complete > 1000


def test_stopping_early_gives_the_query_that_the_whole_answer_gives():
    """Token by token, as in generation: the first complete prefix is all that is needed."""
    for query in GOLD[:100] + DIFFICULT:
        whole = f"{query};\n\nQuestion: Which?\nSQL: SELECT 2;"
        stopped = next(
            whole[:place] for place in range(len(whole)) if answer_complete(whole[:place])
        )
        assert len(stopped) < len(whole)
        assert extract_sql(stopped) == extract_sql(whole) == query


@pytest.mark.parametrize(
    ("sql", "first"),
    [
        ("SELECT 1", "SELECT 1"),
        ("SELECT 1; SELECT 2", "SELECT 1"),
        ("SELECT ';'; SELECT 2", "SELECT ';'"),
        ("SELECT 'open; SELECT 2", "SELECT 'open; SELECT 2"),
        ("; SELECT 2", ""),
    ],
)
def test_the_first_statement(sql, first):
    assert first_statement(sql) == first


def test_what_holds_sql_is_told_from_prose():
    assert all(holds_sql(query) for query in [*GOLD, *DIFFICULT])
    for sql in ("(SELECT 1) UNION (SELECT 2)", "-- all\nSELECT 1", "/* all */ select 1"):
        assert holds_sql(sql)
    for prose in ("", "I cannot select that.", "Sorry: no table with ages"):
        assert not holds_sql(prose)
