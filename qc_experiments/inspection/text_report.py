"""What was found of a data set, in lines for a terminal."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from statistics import median

from qc_experiments.data.table import name_rows
from qc_experiments.evaluation.metrics import HARDNESS
from qc_experiments.inspection.checks import Inspection
from qc_experiments.inspection.faults import KINDS, LEVELS, Fault
from qc_experiments.inspection.query_facts import QueryFacts
from qc_experiments.system.words import counted

SHOWN_SCHEMAS = 5
SHOWN_NAMES = 8
SHOWN_FAULTS = 3


def report_lines(found: Inspection, with_databases: bool) -> Iterator[str]:
    """The whole report."""
    table, schemas = found.table, found.schemas()
    contexts = counted(len({row.context for row in table.rows}), "context")
    db_ids = counted(len({row.db_id for row in table.rows if row.db_id is not None}), "db_id")
    yield f"{table.path}: {counted(len(table.rows), 'usable row')}, {contexts}, {db_ids}"
    yield f"  {_spread(schemas)} per schema; hardness: {_shares(found.facts)}"
    if found.target is not None:
        yield f"  hardness of the target: {_shares(found.target)}"
        yield from _missing_shapes(found.facts, found.target)
    yield from _token_lines(found)
    yield from _untouched_lines(found)
    yield from _fault_lines(found.faults)
    if found.all_run:
        where = "its database" if with_databases else "an empty database made from its context"
        yield f"  every query runs on {where}"
    if found.held_out is not None:
        faults, count = found.held_out
        yield f"held out: {counted(count, 'row')}"
        yield from _fault_lines(faults, count)


def _shares(facts: Sequence[QueryFacts]) -> str:
    counts = Counter(fact.hardness for fact in facts)
    return ", ".join(f"{level} {counts[level]}" for level in HARDNESS if counts[level])


def _missing_shapes(own: Sequence[QueryFacts], target: Sequence[QueryFacts]) -> Iterator[str]:
    """Features of the target's queries that the rows have much more seldom."""
    have, wanted = (
        {
            name: count / len(facts)
            for name, count in Counter(n for f in facts for n in f.features).items()
        }
        for facts in (own, target)
    )
    seldom = [
        f"{name} ({100 * have.get(name, 0):.0f} % instead of {100 * share:.0f} %)"
        for name, share in sorted(wanted.items(), key=lambda one: -one[1])
        if share >= 0.02 and have.get(name, 0) < share / 2
    ]
    if seldom:
        yield f"  less than half as often as in the target: {', '.join(seldom)}"


def _spread(schemas: Sequence[int]) -> str:
    """Questions of schemas, the fewest first."""
    if schemas[0] == schemas[-1]:
        return counted(schemas[0], "question")
    return f"{schemas[0]} to {schemas[-1]} questions (median {median(schemas):g})"


def _token_lines(found: Inspection) -> Iterator[str]:
    tokens = found.tokens
    if tokens is None:
        return
    lengths = sorted(tokens.lengths)
    ninety = lengths[min(len(lengths) - 1, int(0.9 * len(lengths)))]
    window = "" if tokens.window is None else f", window {tokens.window}"
    yield (
        f"  tokens of {tokens.model}: median {lengths[len(lengths) // 2]}, 90 % up to {ninety}, "
        f"longest {lengths[-1]}; data.max_length={tokens.longest}{window}"
    )
    if tokens.computed:
        yield (
            f"  shared_schema computes {tokens.computed:,} of {tokens.fitting:,} tokens an epoch: "
            f"{tokens.fitting / tokens.computed:.1f} times fewer"
        )


def _untouched_lines(found: Inspection) -> Iterator[str]:
    if not found.untouched:
        return
    count = sum(map(len, found.untouched.values()))
    yield f"  no question is about {counted(count, 'table or column', 'tables and columns')}:"
    for schema, names in list(found.untouched.items())[:SHOWN_SCHEMAS]:
        more = f" and {len(names) - SHOWN_NAMES} more" if len(names) > SHOWN_NAMES else ""
        yield f"    {schema}: {', '.join(names[:SHOWN_NAMES])}{more}"
    if len(found.untouched) > SHOWN_SCHEMAS:
        yield f"    and in {len(found.untouched) - SHOWN_SCHEMAS} more schemas"


def _fault_lines(faults: Sequence[Fault], held_out: int = 0) -> Iterator[str]:
    """Each fault in a line, and below those of a kind what to do."""
    for level in LEVELS:
        for kind, known in KINDS.items():
            some = [fault for fault in faults if fault.kind == kind]
            if known.level != level or not some:
                continue
            count = sum(len(fault.rows) for fault in some)
            for fault in some[:SHOWN_FAULTS]:
                share = f"{100 * count / held_out:.0f} % of them, " if held_out else ""
                yield f"  {level}: {known.title.format(fault.what)}: {share}{name_rows(fault.rows)}"
            if len(some) > SHOWN_FAULTS:
                left = sorted({row for fault in some[SHOWN_FAULTS:] for row in fault.rows})
                yield f"      and so in {counted(len(left), 'more row')}: {name_rows(left)}"
            yield f"      {known.advice}"
