"""The kinds of faults that a data set may have, what each means, and what to do about it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

ERROR, WARNING, NOTE = "error", "warning", "note"
LEVELS = (ERROR, WARNING, NOTE)
"""An error spoils training or its figures, a warning is to be looked at, a note is to be known."""


@dataclass(frozen=True)
class Kind:
    """A kind of fault.

    Attributes:
        level: one of `LEVELS`.
        title: what is wrong with the rows that are named behind it.
        advice: what to do, in the imperative.
        fixed: what ``--fix`` does about it; empty for nothing.
    """

    level: str
    title: str
    advice: str
    fixed: str = ""


KINDS = {
    "empty_cell": Kind(
        ERROR,
        "an empty {}",
        "fill it; training refuses empty cells unless data.on_invalid=drop",
        "rows with empty cells left out",
    ),
    "not_sql": Kind(
        ERROR,
        "query is not SQL",
        "write the query; perhaps columns are mixed up",
    ),
    "several_statements": Kind(
        ERROR,
        "query holds several statements",
        "keep one",
    ),
    "query_fails": Kind(
        ERROR,
        "query fails on {}",
        "mend the query, or the database",
    ),
    "query_writes": Kind(
        ERROR,
        "query may not run there ({})",
        "only queries that read can be judged, of what the database lets its user read",
    ),
    "too_slow": Kind(
        ERROR,
        "query takes too long, or gives too much ({})",
        "make it smaller",
    ),
    "no_database": Kind(
        ERROR,
        "database is missing ({})",
        "put it there, or leave the rows out",
    ),
    "not_in_context": Kind(
        ERROR,
        "query uses what the context does not show ({})",
        "complete the context: the model cannot know it",
    ),
    "too_long": Kind(
        ERROR,
        "longer than {}: training leaves it out",
        "raise data.max_length, or take a shorter schema",
    ),
    "leak": Kind(
        ERROR,
        "asked in training as well: the figures are too good by them",
        "take one away",
    ),
    "near_leak": Kind(
        WARNING,
        "nearly a question of training, about the same schema ({})",
        "take one away",
    ),
    "repeat": Kind(
        WARNING,
        "repeating an earlier row, left out",
        "leave it out",
        "repeats left out",
    ),
    "conflict": Kind(
        WARNING,
        "asking an earlier question with another query; both are kept",
        "check which is right",
    ),
    "near_repeat": Kind(
        WARNING,
        "nearly repeating an earlier row ({})",
        "leave one out, or ask otherwise",
    ),
    "near_conflict": Kind(
        WARNING,
        "asking an earlier question, but for spelling, with another query ({})",
        "check which is right",
    ),
    "empty_result": Kind(
        WARNING,
        "query returns no rows",
        "check it: any query without rows but with as many columns counts as right",
    ),
    "tie": Kind(
        WARNING,
        "LIMIT cuts through a tie: several results are right",
        "sort by more, or ask for all",
    ),
    "limit_without_order": Kind(
        WARNING,
        "LIMIT without ORDER BY: any rows are right",
        "say which rows",
    ),
    "random": Kind(
        WARNING,
        "query calls a random function",
        "ask for what stays the same",
    ),
    "text_for_column": Kind(
        WARNING,
        "a name in double quotes is taken for a text ({})",
        "quote texts with single quotes",
    ),
    "cross_join": Kind(
        WARNING,
        "tables are joined without a condition",
        "say which rows belong together",
    ),
    "unknown_literal": Kind(
        WARNING,
        "a value stands in neither the question nor the query's tables ({})",
        "name it in the question: the model cannot guess it",
    ),
    "literal_case": Kind(
        WARNING,
        "a value is spelled otherwise in the database ({})",
        "spell it as the database does",
    ),
    "fenced": Kind(
        WARNING,
        "query stands in a code fence or behind words",
        "keep the SQL alone",
        "queries taken out of fences and words",
    ),
    "question_is_sql": Kind(
        WARNING,
        "question is written in SQL",
        "ask in words",
    ),
    "garbled": Kind(
        WARNING,
        "letters are garbled, as by another encoding",
        "read the source in its own encoding",
    ),
    "placeholder": Kind(
        WARNING,
        "a placeholder was left in ({})",
        "fill in what it stands for",
    ),
    "other_context": Kind(
        WARNING,
        "context differs from that of other rows about the same database",
        "use one for all",
    ),
    "not_tried": Kind(
        NOTE,
        "query was not tried: {}",
        "give the databases, or CREATE statements that SQLite runs as contexts",
    ),
    "double_quoted": Kind(
        NOTE,
        "texts stand in double quotes, which SQLite alone forgives",
        "quote texts with single quotes",
    ),
    "shared_query": Kind(
        NOTE,
        "query stands in training as well, but for its values",
        "expect figures that flatter",
    ),
    "shared_schema": Kind(
        NOTE,
        "schema stands in training as well",
        "split by schema to see how new ones are answered",
    ),
}
"""By key, from the worst to the least."""


@dataclass(frozen=True)
class Fault:
    """Rows that have the same fault; ``what`` fills the gap in its kind's title."""

    kind: str
    rows: tuple[int, ...]
    what: str = ""

    @property
    def level(self) -> str:
        """How grave it is."""
        return KINDS[self.kind].level


@dataclass
class Faults:
    """Collects faults; rows with the same fault stand together."""

    found: dict[tuple[str, str], set[int]] = field(default_factory=dict)

    def add(self, kind: str, row: int, what: str = "") -> None:
        """Note a fault of a row, by its number."""
        self.extend(kind, (row,), what)

    def extend(self, kind: str, rows: Iterable[int], what: str = "") -> None:
        """Note the same fault of several rows; what is said of it becomes one line."""
        if found := set(rows):
            self.found.setdefault((kind, " ".join(what.split())), set()).update(found)

    def rows(self, kind: str) -> set[int]:
        """The rows that have a kind of fault."""
        return set().union(*(rows for (one, _), rows in self.found.items() if one == kind))

    def ranked(self) -> Iterator[Fault]:
        """The worst first; of one kind, that of most rows."""
        order = list(KINDS)
        for (kind, what), rows in sorted(
            self.found.items(), key=lambda one: (order.index(one[0][0]), -len(one[1]))
        ):
            yield Fault(kind, tuple(sorted(rows)), what)
