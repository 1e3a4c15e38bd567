"""Pack rows so that the tokens they share are in the pack once: a tree of prefixes.

A node is a run of tokens that all rows below it have in common, a leaf the rest of a row with its
completion, which is never merged, since each is another row's answer. The nodes stand in one sequence, each
after its parent and before whatever comes after the parent's subtree, which ends at its ``exit``. So

    a query sees a key  iff  enter[key] <= enter[query] < exit[key]  and the key is not after it,

which is attention to the row's own text and to nothing else. Positions count from the row's start.

Where the questions about a schema are too many for one sequence, the pack is computed in several passes:
the trunk, which is what all its rows begin with, once, and then some rows at a time (see `packing.loss`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

from qc_experiments.data.encode import IGNORED, Example

MIN_SHARED = 0.5  # rows belong to one schema if they have this share of a prompt in common
MIN_SAVED = 16  # tokens that a node has to save, since each costs calls
MIN_PASS = 0.25  # least room for a pass after a trunk, as a share of the most tokens


@dataclass(frozen=True)
class Node:
    """A run of tokens in a pack."""

    start: int  # place of its first token in the pack (enter)
    end: int  # place after its last one
    exit: int  # place after its subtree
    parent: int | None  # index of the node before it in each row
    position: int  # place of its first token in its rows


@dataclass(frozen=True)
class Pack:
    """Rows in one sequence."""

    passes: list[
        tuple[int, int]
    ]  # places computed at once; the others may see the first pass alone
    input_ids: list[int]  # [length]
    position_ids: list[int]  # each token's place in its row, [length]
    nodes: list[Node]  # in the order of their starts
    label_places: list[int]  # that predict a label, ascending; repeated where rows branch
    label_targets: list[int]  # those labels
    label_weights: list[int]  # how many rows have that label there

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


def schema_groups(prompts: Sequence[Sequence[int]]) -> list[list[int]]:
    """Places of the prompts about each schema, in lexicographic order of the prompts."""
    groups: list[list[int]] = []
    for number in sorted(range(len(prompts)), key=lambda n: tuple(prompts[n])):
        if groups:
            last, prompt = prompts[groups[-1][-1]], prompts[number]
            if common_prefix(last, prompt) >= MIN_SHARED * min(len(last), len(prompt)):
                groups[-1].append(number)
                continue
        groups.append([number])
    return groups


def pack_rows(rows: Sequence[Example], max_tokens: int) -> list[Pack]:
    """Pack rows into few sequences, keeping rows that share a beginning together.

    A pass has at most ``max_tokens``; a row that is longer has a pass of its own.
    """
    schemas = schema_groups([row.prompt_ids for row in rows])
    bundles = (one for group in schemas for one in _bundles([rows[n] for n in group], max_tokens))
    packs: list[_Bundle] = []
    # The largest first, each into the first pack with room: first-fit decreasing.
    for bundle in sorted(bundles, key=lambda one: -one.tokens):
        for place, pack in enumerate(packs):
            if pack.tokens + bundle.tokens <= max_tokens:
                rows = sorted([*pack.rows, *bundle.rows], key=lambda row: row.prompt_ids)
                both = _Bundle(rows)
                if both.tokens <= max_tokens:
                    packs[place] = both
                    break
        else:
            packs.append(bundle)
    return [_build(pack) for pack in packs]


class _Bundle:
    """Rows in lexicographic order that stay together.

    ``cuts`` are the numbers of the rows with which passes after a trunk begin; none for a single pass.
    """

    def __init__(self, rows: list[Example], cuts: Sequence[int] = ()) -> None:
        self.rows = rows
        self.cuts = cuts
        self.parts = _parts(rows, cuts)
        self.tokens = _tokens(self.parts)


def _bundles(rows: list[Example], max_tokens: int) -> Iterator[_Bundle]:
    """Bundles of rows about one schema, in several passes where one does not hold it."""
    whole = _Bundle(rows)
    trunk = _trunk(rows)
    if whole.tokens <= max_tokens or len(rows) == 1:
        yield whole
    elif trunk < MIN_SHARED * min(map(len, rows)):
        # Each is like the next, but not the first like the last.
        start = 0
        for end in range(1, len(rows) + 1):
            if end == len(rows) or _Bundle(rows[start : end + 1]).tokens > max_tokens:
                yield _Bundle(rows[start:end])
                start = end
    else:
        room = max(max_tokens - trunk, int(max_tokens * MIN_PASS))
        cuts = [0]
        for number in range(1, len(rows)):
            if _tokens(_branches(rows[cuts[-1] : number + 1], trunk)) > room:
                cuts.append(number)
        yield _Bundle(rows, cuts)


def _trunk(rows: Sequence[Example]) -> int:
    """Tokens with which all of some rows in lexicographic order begin."""
    return common_prefix(rows[0].prompt_ids, rows[-1].prompt_ids)


@dataclass(frozen=True)
class _Part:
    """A node to be: tokens ``start`` to ``end`` of the rows ``first`` to before ``last``."""

    first: int
    last: int
    start: int
    end: int
    parent: int | None


def _tokens(parts: Sequence[_Part]) -> int:
    return sum(part.end - part.start for part in parts)


def _parts(rows: Sequence[Example], cuts: Sequence[int]) -> list[_Part]:
    """The tree of some rows in lexicographic order: its nodes, each before its children."""
    if not cuts:
        return _branches(rows, 0)
    trunk = _trunk(rows)
    found = [_Part(0, len(rows), 0, trunk, None)]
    for first, last in pairwise([*cuts, len(rows)]):
        own = len(found)
        for part in _branches(rows[first:last], trunk):
            parent = 0 if part.parent is None else part.parent + own
            found.append(_Part(part.first + first, part.last + first, part.start, part.end, parent))
    return found


def _branches(rows: Sequence[Example], depth: int) -> list[_Part]:
    """The same from a depth on to which all rows are alike."""
    common = [common_prefix(a.prompt_ids, b.prompt_ids) for a, b in pairwise(rows)]
    found: list[_Part] = []
    # Rows that still have to be laid down, how many of their tokens are, and after which node.
    waiting: list[tuple[int, int, int, int | None]] = [(0, len(rows), depth, None)]
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


def _build(bundle: _Bundle) -> Pack:
    rows = bundle.rows
    ids: list[int] = []
    positions: list[int] = []
    nodes: list[Node] = []
    places: list[list[int]] = [[] for _ in rows]  # of each row's tokens in the pack
    cuts = list(bundle.cuts)
    passes = [0]
    for part in bundle.parts:
        row = rows[part.first]
        if nodes and part.first in cuts[:1]:
            passes.append(len(ids))
            cuts.pop(0)
        start, end = len(ids), len(ids) + part.end - part.start
        ids += row.input_ids[part.start : part.end]
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
        passes=list(pairwise([*passes, len(ids)])),
        input_ids=ids,
        position_ids=positions,
        nodes=nodes,
        label_places=[place for place, _ in ordered],
        label_targets=[target for _, target in ordered],
        label_weights=[labels[label] for label in ordered],
    )
