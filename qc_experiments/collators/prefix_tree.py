"""Pack rows so that the tokens they share are in the pack once: a tree of prefixes.

Rows about one schema begin alike. Their prompts form a tree: a node is a run of tokens that all rows
below it have in common, a leaf the rest of a row with its completion. Completions are never merged,
not even where two begin alike, since each is another row's answer. The nodes stand in one sequence,
each behind its parent and before whatever comes after the parent's subtree. Numbering that sequence
tells who sees whom: a node's subtree ends at its ``exit``, and

    a query sees a key  iff  enter[key] <= enter[query] < exit[key]  and the key is not behind it,

which is attention to the row's own text and to nothing else. Positions count from the row's start.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

from qc_experiments.data.encode import IGNORED

MIN_SHARED = 0.5
"""Rows belong to one schema if they have this share of a prompt in common."""
MIN_SAVED = 16
"""A common beginning that saves fewer tokens than this stays in its rows: each node costs calls."""


@dataclass(frozen=True)
class PackRow:
    """A row to be packed.

    Attributes:
        prompt: tokens that may be shared.
        completion: tokens that may not.
        labels: as long as both together; a label is the token at its own place, or `IGNORED`.
    """

    prompt: Sequence[int]
    completion: Sequence[int]
    labels: Sequence[int]

    def __len__(self) -> int:
        """Tokens of the row."""
        return len(self.prompt) + len(self.completion)


@dataclass(frozen=True)
class Node:
    """A run of tokens in a pack.

    Attributes:
        start: place of its first token in the pack (``enter``).
        end: place behind its last one.
        exit: place behind its subtree.
        parent: index of the node before it in each row, or None.
        position: place of its first token in its rows.
    """

    start: int
    end: int
    exit: int
    parent: int | None
    position: int


@dataclass(frozen=True)
class Pack:
    """Rows in one sequence.

    Attributes:
        input_ids: tokens, [length].
        position_ids: each token's place in its row, [length].
        nodes: in the order of their starts.
        label_places: places that predict a label, ascending; a place where rows branch comes once
            for each different label.
        label_targets: those labels.
        label_weights: how many rows have that label there.
        rows: number of rows.
    """

    input_ids: list[int]
    position_ids: list[int]
    nodes: list[Node]
    label_places: list[int]
    label_targets: list[int]
    label_weights: list[int]
    rows: int

    def __len__(self) -> int:
        """Tokens that are computed."""
        return len(self.input_ids)


def common_prefix(one: Sequence[int], other: Sequence[int]) -> int:
    """Number of tokens with which both begin."""
    low, high = 0, min(len(one), len(other))
    if one[:high] == other[:high]:
        return high
    while high - low > 1:  # halving compares whole slices, far faster than token by token
        middle = (low + high) // 2
        if one[low:middle] == other[low:middle]:
            low = middle
        else:
            high = middle
    return low


def same_schema(one: Sequence[int], other: Sequence[int], shared: int) -> bool:
    """Whether two prompts share so much that it must be their schema.

    Args:
        one: a prompt's tokens.
        other: another's.
        shared: tokens with which both begin.
    """
    return shared >= MIN_SHARED * min(len(one), len(other))


def pack_rows(rows: Sequence[PackRow], max_tokens: int) -> list[Pack]:
    """Pack rows into few sequences, keeping rows that share a beginning together.

    Args:
        rows: the rows of a micro-batch.
        max_tokens: most tokens of a pack; a row that is longer has a pack of its own.

    Returns:
        Packs that hold each row once.
    """
    # The largest first, each into the first pack with room: first-fit decreasing.
    bundles = sorted(_bundles(_sorted(rows), max_tokens), key=lambda one: -one.tokens)
    packs: list[_Bundle] = []
    for bundle in bundles:
        for place, pack in enumerate(packs):
            if pack.tokens + bundle.tokens <= max_tokens:
                both = _Bundle(_sorted([*pack.rows, *bundle.rows]))
                if both.tokens <= max_tokens:
                    packs[place] = both
                    break
        else:
            packs.append(bundle)
    return [_build(pack.rows) for pack in packs]


def _sorted(rows: Sequence[PackRow]) -> list[PackRow]:
    return sorted(rows, key=lambda row: list(row.prompt))


class _Bundle:
    """Rows in lexicographic order that stay together, and the tokens they take in a pack."""

    def __init__(self, rows: list[PackRow]) -> None:
        self.rows = rows
        self.tokens = sum(part.end - part.start for part in _parts(rows))


def _bundles(ordered: Sequence[PackRow], max_tokens: int) -> Iterator[_Bundle]:
    """Cut rows in lexicographic order where the schema changes, or a pack is full."""
    bundle: _Bundle | None = None
    for row in ordered:
        if bundle is not None:
            last = bundle.rows[-1].prompt
            if same_schema(last, row.prompt, common_prefix(last, row.prompt)):
                longer = _Bundle([*bundle.rows, row])
                if longer.tokens <= max_tokens:
                    bundle = longer
                    continue
            yield bundle
        bundle = _Bundle([row])
    if bundle is not None:
        yield bundle


@dataclass(frozen=True)
class _Part:
    """A node to be: tokens ``start`` to ``end`` of the rows ``first`` to before ``last``."""

    first: int
    last: int
    start: int
    end: int
    parent: int | None


def _parts(rows: Sequence[PackRow]) -> list[_Part]:
    """The tree of some rows in lexicographic order: its nodes, each before its children."""
    common = [common_prefix(a.prompt, b.prompt) for a, b in pairwise(rows)]
    found: list[_Part] = []
    # Rows that still have to be laid down, how many of their tokens are, and behind which node.
    waiting: list[tuple[int, int, int, int | None]] = [(0, len(rows), 0, None)]
    while waiting:
        first, last, depth, parent = waiting.pop()
        if last - first == 1:
            found.append(_Part(first, last, depth, len(rows[first]), parent))
            continue
        shared = min(common[first : last - 1])
        branches = [first]
        branches += [n + 1 for n in range(first, last - 1) if common[n] == shared]
        if (shared - depth) * (len(branches) - 1) >= MIN_SAVED:
            found.append(_Part(first, last, depth, shared, parent))
            depth, parent = shared, len(found) - 1
        ends = [*branches[1:], last]
        for start, end in reversed(list(zip(branches, ends, strict=True))):
            waiting.append((start, end, depth, parent))
    return found


def _build(rows: Sequence[PackRow]) -> Pack:
    """The pack of some rows in lexicographic order."""
    ids: list[int] = []
    positions: list[int] = []
    nodes: list[Node] = []
    places: list[list[int]] = [[] for _ in rows]  # of each row's tokens in the pack
    for part in _parts(rows):
        row = rows[part.first]
        start, end = len(ids), len(ids) + part.end - part.start
        ids += [*row.prompt, *row.completion][part.start : part.end]
        positions += range(part.start, part.end)
        nodes.append(Node(start, end, end, part.parent, part.start))
        for number in range(part.first, part.last):
            places[number] += range(start, end)
    for node in reversed(nodes):  # children come after their parents
        if node.parent is not None and nodes[node.parent].exit < node.exit:
            nodes[node.parent] = replace(nodes[node.parent], exit=node.exit)
    labels: Counter[tuple[int, int]] = Counter()
    for row, taken in zip(rows, places, strict=True):
        for before, label in zip(taken, row.labels[1:], strict=False):
            if label != IGNORED:
                labels[before, label] += 1
    ordered = sorted(labels)
    return Pack(
        input_ids=ids,
        position_ids=positions,
        nodes=nodes,
        label_places=[place for place, _ in ordered],
        label_targets=[target for _, target in ordered],
        label_weights=[labels[label] for label in ordered],
        rows=len(rows),
    )
