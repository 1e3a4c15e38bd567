"""Two published rules for whether two results are the same, so that figures compare with papers.

Neither is our own rule (see `qc_experiments.judging.equivalence`): both accept some wrong
predictions and refuse some right ones. They are kept as published, with what they get wrong.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from itertools import pairwise

from qc_experiments.databases.engine import Row
from qc_experiments.judging.equivalence import Expected, Group, Keys, compare, keyed
from qc_experiments.sql.tokens import tokens

MAX_CELLS = 20_000_000
"""Most cells that `ex_test_suite` looks at again, once it has to turn back in its search."""


def ex_bird(gold_rows: Sequence[Row], predicted_rows: Sequence[Row]) -> bool:
    """Whether two results are the same by BIRD's rule: equal as sets of rows.

    So the order of the rows and duplicates never count, the order of the columns does, and any two
    empty results are the same. Cells compare as Python compares them: 1 equals 1.0, 0.1 + 0.2 does
    not equal 0.3.

    Source: Li et al., "Can LLM Already Serve as A Database Interface? A BIg Bench for Large-Scale
    Database Grounded Text-to-SQLs", NeurIPS 2023; ``compute_execution_accuracy`` in
    ``bird/llm/src/evaluation.py`` of AlibabaResearch/DAMO-ConvAI.
    """
    return gold_rows == predicted_rows or set(keyed(gold_rows)) == set(keyed(predicted_rows))


def ex_test_suite(
    gold_rows: Sequence[Row], predicted_rows: Sequence[Row], *, order_matters: bool
) -> bool:
    """Whether two results are the same by the rule of Spider's test suites.

    They are if some assignment of columns makes them equal as multisets of rows, or as lists where
    the order matters. Any two empty results are the same, whatever their columns. A quirk of the
    original is kept: before the columns are looked at, the cells of each row are sorted by their
    spelling and type, and rows that then differ are refused. As 1 sorts after 1.5 and 1.0 before
    it, ``(1, 1.5)`` is not the same as ``(1.0, 1.5)``.

    The original samples rows to rule assignments out, and then tries all that are left; ours searches,
    which leaves the verdict as it is. A search that exceeds `MAX_CELLS` ends with False; only large
    results with many columns that resemble each other get there (the original would take years).

    Source: Zhong, Yu and Klein, "Semantic Evaluation for Text-to-SQL with Distilled Test Suites",
    EMNLP 2020; ``result_eq`` in ``exec_eval.py`` of taoyds/test-suite-sql-eval.
    """
    if not gold_rows and not predicted_rows:
        return True
    if len(gold_rows) != len(predicted_rows) or len(gold_rows[0]) != len(predicted_rows[0]):
        return False
    gold_keys, predicted_keys = keyed(gold_rows), keyed(predicted_rows)
    gold_sorted = _sorted_cells(gold_rows, gold_keys)
    predicted_sorted = _sorted_cells(predicted_rows, predicted_keys)
    if order_matters:
        # Equal as lists under some assignment: the same columns, each as often.
        return gold_sorted == predicted_sorted and (
            Counter(zip(*gold_keys, strict=True)) == Counter(zip(*predicted_keys, strict=True))
        )
    if set(gold_sorted) != set(predicted_sorted):
        return False
    if Counter(gold_keys) == Counter(predicted_keys):
        return True
    # What no permutation changes stands before each row as a column, which tells rows apart early.
    gold, predicted = (
        [("|".join(["row", *sorted(row)]), *row) for row in keys]
        for keys in (gold_keys, predicted_keys)
    )
    width = len(gold[0])
    budget = MAX_CELLS + 2 * width * len(gold)
    expected = Expected((Group(gold, len(gold)),), width)
    return compare(expected, predicted, [""] * width, budget).difference is None


def order_matters_in_test_suite(gold_sql: str) -> bool:
    """Whether the order of rows counts by the rule of Spider's test suites (``eval_exec_match`` there).

    It looks for the words alone: an ORDER BY in a subquery, a comment or a string counts, and one
    with two blanks or a line break between its words does not.
    """
    return "order by" in gold_sql.lower()


def without_distinct(sql: str, dialect: str = "sqlite") -> str:
    """A query as Spider's test suites run it, be it gold or prediction: without any DISTINCT.

    Every DISTINCT is dropped, also within ``count(DISTINCT x)`` (and ``IS DISTINCT FROM``, which
    then no longer runs); strings, quoted identifiers and comments are left alone, and so is
    PostgreSQL's ``DISTINCT ON``, which the original does not know. Before that, ``> =``, ``< =`` and
    ``! =`` lose their blank, also in strings. A query with none of these comes back as it was.

    Source: ``postprocess`` in ``exec_eval.py`` and ``remove_distinct`` in ``parse.py`` there.
    """
    joined = sql.replace("> =", ">=").replace("< =", "<=").replace("! =", "!=")
    if "distinct" not in joined.lower():  # which saves the tokens of a query of megabytes
        return joined
    found = tokens(joined, dialect)
    dropped = [
        token
        for token, after in pairwise((*found, None))
        if token is not None and token.is_word("distinct") and not (after and after.is_word("on"))
    ]
    starts = [0, *(token.end for token in dropped)]
    ends = [*(token.start for token in dropped), len(joined)]
    return "".join(joined[start:end] for start, end in zip(starts, ends, strict=True))


def _sorted_cells(rows: Sequence[Row], keys: Sequence[Keys]) -> list[Keys]:
    """The keys of each row's cells, sorted by the cells' spelling and type."""
    found = []
    for row, own in zip(rows, keys, strict=True):
        pairs = [(str(cell) + str(type(cell)), key) for cell, key in zip(row, own, strict=True)]
        found.append(tuple(key for _, key in sorted(pairs, key=lambda pair: pair[0])))
    return found
