"""Two published rules for whether two results are the same, so that figures compare with papers.

Neither is our own rule (see `qc_experiments.judging.equivalence`): both accept some wrong
predictions and refuse some right ones. They are kept as published, with what they get wrong.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Sequence

from qc_experiments.databases.engine import Value
from qc_experiments.databases.keys import Keys, keyed
from qc_experiments.sql.tokens import tokens

Row = tuple[Value, ...]

MAX_CELLS = 10_000_000
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

    The original samples rows at random to rule assignments out, and then tries all that are left;
    this one searches in a fixed order and looks at every row, which leaves the verdict as it is. A
    search that exceeds `MAX_CELLS` ends with False; only large results with many columns that
    resemble each other get there (the original would try assignments for years).

    Source: Zhong, Yu and Klein, "Semantic Evaluation for Text-to-SQL with Distilled Test Suites",
    EMNLP 2020; ``result_eq`` in ``exec_eval.py`` of taoyds/test-suite-sql-eval. There, the queries
    run on several databases and as `without_distinct` leaves them.

    Args:
        gold_rows: rows of the gold query.
        predicted_rows: rows of the predicted query.
        order_matters: what `order_matters_in_test_suite` says of the gold query.
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
    gold, predicted = Counter(gold_keys), Counter(predicted_keys)
    return gold == predicted or _some_assignment_fits(gold, predicted)


def order_matters_in_test_suite(gold_sql: str) -> bool:
    """Whether the order of rows counts by the rule of Spider's test suites.

    It looks for the words alone: an ORDER BY in a subquery, a comment or a string counts, and one
    with two blanks or a line break between its words does not.

    Source: ``eval_exec_match`` in ``exec_eval.py`` of taoyds/test-suite-sql-eval (Zhong, Yu and
    Klein 2020).
    """
    return "order by" in gold_sql.lower()


def without_distinct(sql: str, dialect: str = "sqlite") -> str:
    """A query as Spider's test suites run it, be it gold or prediction: without any DISTINCT.

    Every DISTINCT is dropped, also within ``count(DISTINCT x)`` (and ``IS DISTINCT FROM``, which
    then no longer runs); strings, quoted identifiers and comments are left alone, and so is
    PostgreSQL's ``DISTINCT ON``, which the original does not know. Before that,
    ``> =``, ``< =`` and ``! =`` lose their blank, also in strings. A query with none of these comes
    back as it was. The original also drops all but the first of several statements; this one does
    not, as an engine runs only one.

    Source: ``postprocess`` in ``exec_eval.py`` and ``remove_distinct`` in ``parse.py`` of
    taoyds/test-suite-sql-eval (Zhong, Yu and Klein 2020).
    """
    joined = sql.replace("> =", ">=").replace("< =", "<=").replace("! =", "!=")
    if "distinct" not in joined.lower():  # which saves the tokens of a query of megabytes
        return joined
    found = tokens(joined, dialect)
    dropped = [
        token
        for token, after in zip(found, [*found[1:], None], strict=True)
        if token.is_word("distinct") and not (after is not None and after.is_word("on"))
    ]
    starts = [0, *(token.end for token in dropped)]
    ends = [*(token.start for token in dropped), len(joined)]
    return "".join(joined[start:end] for start, end in zip(starts, ends, strict=True))


def _sorted_cells(rows: Sequence[Row], keys: Sequence[Keys]) -> list[Keys]:
    """The keys of each row's cells, sorted by the cells' spelling and type."""
    found = []
    for row, own in zip(rows, keys, strict=True):
        spellings = [str(cell) + str(type(cell)) for cell in row]
        found.append(tuple(key for _, key in sorted(zip(spellings, own, strict=True), key=_first)))
    return found


def _first(pair: tuple[str, str]) -> str:
    return pair[0]


def _some_assignment_fits(gold: Counter[Keys], predicted: Counter[Keys]) -> bool:
    """Whether the columns of one multiset of rows can be permuted so that it equals the other.

    Each row carries a number. At first it stands for what no permutation changes: the row's cells,
    and how often the row occurs. Then the gold's columns are assigned one by one; a row's number
    and its cell in the assigned column make up its next number, and an assignment is given up as
    soon as the two results' numbers differ as multisets.

    Args:
        gold: the keys of the gold's rows, and how often each occurs.
        predicted: those of the prediction's rows, as many columns wide.
    """
    numbers: dict[Hashable, int] = {}
    gold_start, predicted_start = (
        [
            numbers.setdefault((frozenset(Counter(row).items()), count), len(numbers))
            for row, count in rows.items()
        ]
        for rows in (gold, predicted)
    )
    if Counter(gold_start) != Counter(predicted_start):
        return False

    # Equal columns need to be tried only once; each can be assigned as often as it occurs.
    gold_columns = list(zip(*gold, strict=True))
    choices = list(Counter(zip(*predicted, strict=True)).items())
    by_profile: dict[Hashable, list[int]] = {}
    for choice, (column, _) in enumerate(choices):
        by_profile.setdefault(_profile(predicted_start, column), []).append(choice)
    candidates = [by_profile.get(_profile(gold_start, column), []) for column in gold_columns]
    # Columns with the fewest candidates come first; a column without any ends the search at once.
    order = sorted(range(len(gold_columns)), key=lambda index: len(candidates[index]))
    steps = _steps(gold_start, [gold_columns[index] for index in order])
    return _search(predicted_start, choices, [candidates[index] for index in order], steps)


Step = tuple[dict[tuple[int, str], int], Counter[int]]
"""The next number of each pair of number and cell, and the numbers that rows must have then."""


def _steps(row_numbers: list[int], columns: Sequence[Keys]) -> list[Step]:
    """What assigning each of the gold's columns, one after the other, makes of its rows' numbers."""
    steps: list[Step] = []
    for column in columns:
        successors: dict[tuple[int, str], int] = {}
        row_numbers = [
            successors.setdefault(pair, len(successors))
            for pair in zip(row_numbers, column, strict=True)
        ]
        steps.append((successors, Counter(row_numbers)))
    return steps


def _search(
    start: list[int],
    choices: Sequence[tuple[Keys, int]],
    candidates: Sequence[Sequence[int]],
    steps: Sequence[Step],
) -> bool:
    """Whether the prediction's columns can be assigned so that its rows' numbers take all steps.

    Args:
        start: numbers of the prediction's rows.
        choices: its different columns, and how often each occurs.
        candidates: for each step the choices that may be assigned.
        steps: of the gold.
    """
    cells_left = len(start) * len(steps) + MAX_CELLS
    # What is left to try: numbers of the prediction's rows, columns assigned so far, one more.
    stack: list[tuple[list[int], tuple[int, ...], int]]
    stack = [(start, (), choice) for choice in reversed(candidates[0])]
    while stack:
        before, assigned, choice = stack.pop()
        column, occurrences = choices[choice]
        if assigned.count(choice) == occurrences:
            continue
        cells_left -= len(column)
        if cells_left < 0:
            return False
        successors, wanted = steps[len(assigned)]
        after = [successors.get(pair, -1) for pair in zip(before, column, strict=True)]
        if Counter(after) != wanted:
            continue
        assigned = (*assigned, choice)
        if len(assigned) == len(steps):
            return True
        stack += [(after, assigned, other) for other in reversed(candidates[len(assigned)])]
    return False


def _profile(row_numbers: Sequence[int], column: Keys) -> Hashable:
    """What a column has in common with every column that it can be assigned to."""
    return frozenset(Counter(zip(row_numbers, column, strict=True)).items())
