"""The query patterns that all domains share, their wordings and how many rows each one gets."""

from __future__ import annotations

from dataclasses import dataclass

from demo_domains.grammar import Domain, Entity, Family, Phrase, Pools


@dataclass(frozen=True)
class Head:
    """A query pattern over the vocabulary of an entity."""

    sql: str
    train: tuple[str, ...]
    valid: tuple[str, ...]
    needs: tuple[str, ...] = ("cols",)
    min_rows: int = 1


@dataclass(frozen=True)
class Plan:
    """How many rows a head gets with noun phrases of the given kinds."""

    head: str
    kinds: tuple[str, ...]
    train: int
    valid: int
    shape: str


HEADS: dict[str, Head] = {
    "list": Head(
        "SELECT {cols} FROM {np}",
        (
            "List the {cols:s} of all {np:s}.",
            "Show the {cols} of every {np}.",
            "Provide the {cols} for each of the {np:s}.",
            "Could I have the {cols:s} of all {np:s}?",
            "What are the {cols:s} of the {np:s}?",
            "Give me the {cols:s} of all {np:s}.",
            "I need the {cols} of each {np}.",
            "Which {np:s} are there? Give their {cols:s}.",
            "For every {np}, show the {cols}.",
        ),
        (
            "Find all {np:s} and print their {cols:s}.",
            "Can you tell me the {cols:s} of the {np:s}?",
            "Please return the {cols} for each {np}.",
        ),
    ),
    "lookup": Head(
        "SELECT {attr} FROM {who}",
        (
            "What is the {attr} of {who}?",
            "Give the {attr} of {who}.",
            "I want to know the {attr} of {who}.",
            "Show me the {attr} of {who}.",
            "Look up the {attr} of {who}.",
        ),
        (
            "For {who}, what is the {attr}?",
            "Search for {who} and return the {attr}.",
            "Do you know the {attr} of {who}?",
        ),
        needs=("attr", "who"),
    ),
    "count": Head(
        "SELECT COUNT(*) FROM {np}",
        (
            "How many {np:s} are there?",
            "Count the {np:s}.",
            "What is the number of {np:s}?",
            "Give me the total number of {np:s}.",
            "Show how many {np:s} there are.",
            "How many {np:s} do we have?",
        ),
        (
            "Tell me how many {np:s} exist.",
            "I would like to know the number of {np:s}.",
            "How many {np:s} does the database hold?",
        ),
        needs=(),
    ),
    "agg": Head(
        "SELECT {agg} FROM {np}",
        (
            "What <is> the {agg} of all {np:s}?",
            "Give the {agg} of the {np:s}.",
            "Find the {agg} of the {np:s}.",
            "Return the {agg} of the {np:s}.",
            "Show me the {agg} of all {np:s}.",
            "Looking at the {np:s}, what <is> the {agg}?",
        ),
        (
            "Tell me the {agg} among all {np:s}.",
            "Among the {np:s}, what <is> the {agg}?",
            "I want to know the {agg} of the {np:s}.",
        ),
        needs=("agg",),
        min_rows=2,
    ),
    "count_distinct": Head(
        "SELECT COUNT(DISTINCT {dcol}) FROM {np}",
        (
            "How many different {dcol:s} do the {np:s} have?",
            "Count the distinct {dcol:s} of the {np:s}.",
            "What is the number of different {dcol:s} among the {np:s}?",
            "How many distinct {dcol:s} are there among the {np:s}?",
            "Give the number of different {dcol:s} of all {np:s}.",
        ),
        (
            "How many unique {dcol:s} occur among the {np:s}?",
            "Find out how many different {dcol:s} the {np:s} have.",
        ),
        needs=("dcol",),
        min_rows=2,
    ),
    "distinct": Head(
        "SELECT DISTINCT {dcol} FROM {np}",
        (
            "List the different {dcol:s} of the {np:s}.",
            "Which different {dcol:s} do the {np:s} have?",
            "Show all distinct {dcol:s} of the {np:s}.",
            "What are the distinct {dcol:s} among the {np:s}?",
            "Give me each {dcol} of the {np:s} only once.",
        ),
        (
            "Show the {dcol:s} of the {np:s} without duplicates.",
            "Name every different {dcol} found among the {np:s}.",
        ),
        needs=("dcol",),
        min_rows=2,
    ),
    "order": Head(
        "SELECT {cols} FROM {np} ORDER BY {order}",
        (
            "List the {cols:s} of all {np:s}, {order}.",
            "Show the {cols} of every {np}, {order}.",
            "Give me the {cols:s} of the {np:s}, {order}.",
            "What are the {cols:s} of the {np:s}, {order}?",
            "I want to see the {cols:s} of all {np:s}, {order}.",
        ),
        (
            "Of all {np:s}, return the {cols:s}, {order}.",
            "Get the {cols} of each {np}; the rows should come {order}.",
        ),
        needs=("cols", "order"),
        min_rows=3,
    ),
    "top1": Head(
        "SELECT {cols} FROM {np} ORDER BY {sup} LIMIT 1",
        (
            "What <is> the {cols} of the {sup}?",
            "Give the {cols} of the {sup}.",
            "Find the {sup} and show the {cols}.",
            "Show me the {cols} of the {sup}.",
            "Tell me the {cols} of the {sup}.",
        ),
        (
            "I am looking for the {sup}: what <is> the {cols}?",
            "Which is the {sup}? Return the {cols}.",
        ),
        needs=("cols", "sup"),
        min_rows=2,
    ),
    "topn": Head(
        "SELECT {cols} FROM {np} ORDER BY {sup} LIMIT {n}",
        (
            "List the {cols:s} of the {sup:s}.",
            "What are the {cols:s} of the {sup:s}?",
            "Show the {cols} of each of the {sup:s}.",
            "Give me the {cols:s} of the {sup:s}.",
            "Which are the {sup:s}? Show their {cols:s}.",
        ),
        (
            "Find the {sup:s} and give their {cols:s}.",
            "I would like the {cols:s} of the {sup:s}.",
        ),
        needs=("cols", "sup"),
        min_rows=2,
    ),
    "group_count": Head(
        "SELECT {grp}, COUNT(*) FROM {np} GROUP BY {grp}",
        (
            "How many {np:s} are there for each {grp}? Show the {grp} and the count.",
            "For each {grp}, show the {grp} and the number of {np:s}.",
            "List every {grp} with its number of {np:s}.",
            "Count the {np:s} per {grp}; show the {grp} and the count.",
            "Give me each {grp} and the number of {np:s}.",
        ),
        (
            "Group the {np:s} by {grp} and return the {grp} and how many there are.",
            "Show every {grp} together with the number of {np:s} that belong to it.",
        ),
        needs=("grp",),
        min_rows=3,
    ),
    "group_agg": Head(
        "SELECT {grp}, {agg} FROM {np} GROUP BY {grp}",
        (
            "For each {grp}, show the {grp} and the {agg} of its {np:s}.",
            "List every {grp} with the {agg} of its {np:s}.",
            "Show the {grp} and the {agg} of the {np:s} for each {grp}.",
            "What <is> the {agg} of the {np:s} in each {grp}? Show the {grp} first.",
            "Give me each {grp} and the {agg} of its {np:s}.",
        ),
        (
            "Group the {np:s} by {grp} and return the {grp} and the {agg}.",
            "Compare the {grp:s}: show each {grp} and the {agg} of its {np:s}.",
        ),
        needs=("grp", "agg"),
        min_rows=3,
    ),
    "having_count": Head(
        "SELECT {grp} FROM {np} GROUP BY {grp} HAVING COUNT(*) {cmp} {k}",
        (
            "Which {grp:s} have {cmp} {k} {np:s}?",
            "List the {grp:s} with {cmp} {k} {np:s}.",
            "Show every {grp} that has {cmp} {k} {np:s}.",
            "Give me all {grp:s} that have {cmp} {k} {np:s}.",
        ),
        (
            "I am looking for the {grp:s} with {cmp} {k} {np:s}.",
            "For which {grp:s} are there {cmp} {k} {np:s}?",
        ),
        needs=("grp",),
        min_rows=3,
    ),
    "having_agg": Head(
        "SELECT {grp} FROM {np} GROUP BY {grp} HAVING {hagg} {sign} {level}",
        (
            "For which {grp:s} is the {hagg} of the {np:s} {sign} {level}?",
            "List the {grp:s} where the {hagg} of the {np:s} is {sign} {level}.",
            "Show each {grp} in which the {hagg} of the {np:s} is {sign} {level}.",
        ),
        (
            "Which {grp:s} have {np:s} that reach {hagg} {sign} {level}?",
            "In what {grp:s} do we see the {hagg} of the {np:s} {sign} {level}?",
        ),
        needs=("grp", "hagg", "level"),
        min_rows=3,
    ),
    "group_most": Head(
        "SELECT {grp} FROM {np} GROUP BY {grp} ORDER BY COUNT(*){most} LIMIT 1",
        (
            "Which {grp} has the {most} {np:s}?",
            "What is the {grp} with the {most} {np:s}?",
            "Name the {grp} that has the {most} {np:s}.",
            "Find the {grp} with the {most} {np:s}.",
        ),
        (
            "Tell me for which {grp} there are the {most} {np:s}.",
            "Return the one {grp} that has the {most} {np:s}.",
        ),
        needs=("grp",),
        min_rows=3,
    ),
    "intersect": Head(
        "SELECT {grp} FROM {np} INTERSECT SELECT {grp} FROM {np2}",
        (
            "Which {grp:s} have both {np:s} and {np2:s}?",
            "List the {grp:s} that have {np:s} and also {np2:s}.",
            "Show every {grp} that has {np:s} as well as {np2:s}.",
        ),
        ("Name the {grp:s} for which there are {np:s} and also {np2:s}.",),
        needs=("grp",),
    ),
    "except": Head(
        "SELECT {grp} FROM {np} EXCEPT SELECT {grp} FROM {np2}",
        (
            "Which {grp:s} have {np:s} but no {np2:s}?",
            "List the {grp:s} that have {np:s} but do not have any {np2:s}.",
            "Show every {grp} that has {np:s} and no {np2:s}.",
        ),
        ("Name the {grp:s} for which there are {np:s} but no {np2:s}.",),
        needs=("grp",),
    ),
    "union": Head(
        "SELECT {grp} FROM {np} UNION SELECT {grp} FROM {np2}",
        (
            "Which {grp:s} have {np:s} or {np2:s} (or both)?",
            "List the {grp:s}, each once, that have {np:s} or {np2:s}.",
            "Show every {grp} once that has {np:s} or {np2:s}.",
        ),
        ("Name each of the {grp:s} for which there are {np:s} or {np2:s} just once.",),
        needs=("grp",),
    ),
}

PARENT_HEADS: dict[str, Head] = {
    "parent_agg": Head(
        "SELECT {pname}, {kagg} FROM {joined}{par} GROUP BY {pkey}",
        (
            "For each {par} with at least one {kid}, show the {pname} and the {kagg}.",
            "Show the {pname} and the {kagg} of every {par} with at least one {kid}.",
            "List the {par:s} that have a {kid}: give the {pname} and the {kagg} of each.",
            "For every {par} that has any {kid:s}, give me the {pname} and the {kagg}.",
        ),
        (
            "Take every {par} with one or more {kid:s} and return the {pname} and the {kagg}.",
            "What are the {pname} and the {kagg} of each {par} that has at least one {kid}?",
        ),
    ),
    "parent_having": Head(
        "SELECT {pname} FROM {joined}{par} GROUP BY {pkey} HAVING COUNT(*) {over} {k}",
        (
            "Which {par:s} have {over} {k} {kid:s}? Give the {pname:s}.",
            "List the {pname:s} of all {par:s} with {over} {k} {kid:s}.",
            "Show the {pname} of every {par} that has {over} {k} {kid:s}.",
            "What are the {pname:s} of the {par:s} with {over} {k} {kid:s}?",
        ),
        (
            "Find each {par} that has {over} {k} {kid:s} and return the {pname}.",
            "I need the {pname:s} of those {par:s} that have {over} {k} {kid:s}.",
        ),
    ),
    "parent_most": Head(
        "SELECT {pname} FROM {joined}{par} GROUP BY {pkey} ORDER BY {rank} DESC LIMIT 1",
        (
            "Which {par} has {rank}? Give the {pname}.",
            "What is the {pname} of the {par} with {rank}?",
            "Find the {par} with {rank} and show the {pname}.",
            "Show the {pname} of the {par} that has {rank}.",
        ),
        (
            "Tell me the {pname} of whichever {par} has {rank}.",
            "Return only the {pname} of the {par} having {rank}.",
        ),
    ),
    "parent_left": Head(
        "SELECT {pname}, COUNT({kid}) FROM {left}{par} GROUP BY {pkey}",
        (
            "For each {par}, including those without any {kid}, "
            "show the {pname} and the number of {kid:s}.",
            "Show the {pname} and the number of {kid:s} of every {par}, zeros included.",
            "List all {par:s} with the {pname} and the number of {kid:s}, "
            "also those that have no {kid}.",
        ),
        (
            "Give the {pname} and the {kid} count of every {par}, "
            "with a 0 for those without any {kid}.",
        ),
    ),
}

PLANS: tuple[Plan, ...] = (
    Plan("list", ("all",), 3, 1, "projection"),
    Plan("lookup", (), 5, 1, "filter"),
    Plan("list", ("eq",), 6, 2, "filter"),
    Plan("list", ("cmp",), 6, 1, "filter"),
    Plan("list", ("between",), 4, 1, "between"),
    Plan("list", ("like",), 4, 1, "like"),
    Plan("list", ("in",), 3, 1, "in_list"),
    Plan("list", ("null",), 3, 1, "null"),
    Plan("list", ("and",), 4, 1, "and"),
    Plan("list", ("or",), 3, 1, "or"),
    Plan("list", ("date", "year"), 4, 1, "date"),
    Plan("list", ("scalar",), 4, 1, "scalar_subquery"),
    Plan("list", ("sub",), 4, 1, "in_subquery"),
    Plan("list", ("not_in",), 3, 1, "not_in"),
    Plan("list", ("exists",), 3, 1, "exists"),
    Plan("list", ("join",), 5, 1, "join"),
    Plan("list", ("jcols",), 4, 1, "join"),
    Plan("list", ("jcols3",), 3, 0, "join3"),
    Plan("count", ("all",), 2, 0, "count"),
    Plan("count", ("eq", "cmp"), 4, 1, "count"),
    Plan("count", ("null", "date", "year", "between"), 3, 0, "count"),
    Plan("count", ("join",), 3, 1, "join"),
    Plan("count", ("join3",), 2, 1, "join3"),
    Plan("count", ("sub", "not_in", "exists"), 2, 0, "not_in"),
    Plan("agg", ("all",), 4, 1, "aggregate"),
    Plan("agg", ("eq", "cmp"), 4, 1, "aggregate"),
    Plan("agg", ("join",), 3, 0, "join"),
    Plan("count_distinct", ("all", "eq", "cmp", "date"), 3, 1, "count_distinct"),
    Plan("distinct", ("all", "eq", "cmp", "date"), 3, 1, "distinct"),
    Plan("order", ("all",), 3, 1, "order_by"),
    Plan("order", ("eq", "cmp"), 3, 0, "order_by"),
    Plan("top1", ("all",), 3, 1, "superlative"),
    Plan("top1", ("eq", "cmp"), 3, 0, "superlative"),
    Plan("topn", ("all", "eq"), 3, 1, "superlative"),
    Plan("group_count", ("all", "cmp", "date"), 4, 1, "group_by"),
    Plan("group_agg", ("all",), 3, 1, "group_by"),
    Plan("having_count", ("all", "cmp", "date"), 4, 1, "having"),
    Plan("having_agg", ("all",), 2, 0, "having"),
    Plan("group_most", ("all", "cmp", "date"), 4, 1, "group_most"),
    Plan("intersect", ("cmp", "date"), 2, 1, "set_operation"),
    Plan("except", ("cmp", "date"), 2, 1, "set_operation"),
    Plan("union", ("cmp", "date"), 1, 0, "set_operation"),
    Plan("parent_agg", (), 4, 1, "group_by_join"),
    Plan("parent_having", (), 3, 0, "having"),
    Plan("parent_most", (), 3, 1, "group_most"),
    Plan("parent_left", (), 2, 1, "outer_join"),
)


def entity_pools(entity: Entity, head: Head, kinds: tuple[str, ...]) -> Pools | None:
    """Return the pools for `head` over `entity`, or None when the entity lacks something."""
    pools: dict[str, tuple[Phrase, ...]] = {"noun": (entity.noun,), "cols": entity.cols}
    pools |= {slot: tuple(pool) for slot, pool in entity.pools.items()}
    if any(not pools.get(slot) for slot in head.needs):
        return None
    if "{np}" in head.sql:
        pools["np"] = entity.noun_phrases(kinds)
        if len(pools["np"]) < (2 if "{np2}" in head.sql else 1):
            return None
    return pools


def plan_family(plan: Plan, domain: Domain) -> Family:
    """Turn one line of the plan into a family for `domain`."""
    key = "_".join((plan.head, *plan.kinds))
    counts = (plan.train, plan.valid)
    if plan.head in PARENT_HEADS:
        head = PARENT_HEADS[plan.head]
        variants = domain.parents
    else:
        head = HEADS[plan.head]
        found = (
            entity_pools(entity, head, plan.kinds)
            for entity in domain.entities
            if not entity.heads or plan.head in entity.heads
        )
        variants = tuple(pools for pools in found if pools is not None)
    if not variants:
        raise ValueError(f"{domain.db_id}: nothing to say for {key}")
    return Family(
        key, plan.shape, head.sql, head.train, head.valid, counts, variants, head.min_rows
    )


def families(domain: Domain) -> tuple[Family, ...]:
    """Return all families of `domain`, the shared ones first."""
    return (*(plan_family(plan, domain) for plan in PLANS), *domain.families)
