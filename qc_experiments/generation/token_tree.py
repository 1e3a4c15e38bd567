"""Texts that begin alike, branching off a prefix that is computed once, and written side by side.

A prefix is prefilled, with its keys and values, and extended by branches: the tokens that several
texts have of their own are computed in one forward, as one sequence in which each sees the prefix
and itself. From then on a branch is a row of a batch, to which the prefix was copied, which is
cheap, and each forward is a step by a token of all branches. A released branch frees its row at once.

Apart from the cache's layers, all this is public to Hugging Face's models: positions, a mask for each
query and key, and a cache of one's own. A single sequence for all texts, each seeing its own slots of
it, would do without the copies, but had half the speed on a CPU: each query's attention runs over the
keys of all.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from functools import partial
from inspect import signature
from typing import Any

import torch
from transformers import DynamicCache
from transformers.cache_utils import DynamicLayer

from qc_experiments.generation.step_attention import step_attention
from qc_experiments.models.loss import unwrapped
from qc_experiments.models.transformers_hooks import attending
from qc_experiments.packing.agreement import cannot_pack

FORWARD_TOKENS = 2048
"""Most tokens of a forward that begins branches: they bound the mask and the activations."""
FORWARD_TOKENS_WITH_LOGITS = 256
"""The same for models that compute logits, [tokens, vocabulary], at every token."""


@dataclass(frozen=True)
class Prefix:
    """A prefix that texts begin with.

    Attributes:
        number: tells prefixes apart.
        length: its number of tokens.
        cache: its keys and values.
    """

    number: int
    length: int
    cache: DynamicCache


@dataclass(eq=False)
class Branch:
    """A text that is being written.

    Attributes:
        prefix: number of the prefix that it begins with.
        prefix_length: tokens of that prefix; its own stand after them.
        length: its tokens, those of the prefix included.
        row: its place in the batch; it may move.
    """

    prefix: int
    prefix_length: int
    length: int
    row: int


class TokenTree:
    """Texts in the cache of a model.

    Args:
        model: a causal language model that `prefixes.cannot_share_prefixes`.
        rows: most branches at a time.
        room: most steps of a branch.
    """

    def __init__(self, model: Any, rows: int, room: int) -> None:
        weight = model.get_input_embeddings().weight
        self._model = model
        self._room = room
        self._device = weight.device
        self._dtype = weight.dtype
        self._hidden = torch.finfo(weight.dtype).min
        self._keeps_logits = "logits_to_keep" in signature(unwrapped(model).forward).parameters
        self._most_tokens = FORWARD_TOKENS if self._keeps_logits else FORWARD_TOKENS_WITH_LOGITS
        self._attends = self._device.type == "cpu" and cannot_pack(model) is None
        self._cache = _RowCache(_Rows(rows))
        self._branches: list[Branch | None] = [None] * rows
        self._held: list[int | None] = [None] * rows  # prefix whose copy is in a row, used or not
        self._prefilled = 0

    def prefill(self, prefix: Sequence[int]) -> Prefix:
        """Compute a prefix, given by its tokens; may be none."""
        cache = DynamicCache()
        for start in range(0, len(prefix), self._most_tokens):
            chunk = prefix[start : start + self._most_tokens]
            positions = range(start, start + len(chunk))
            self._forward([chunk], self._tensor([positions]), cache, keep=1)
        self._prefilled += 1
        return Prefix(self._prefilled, len(prefix), cache)

    def extend(
        self, prefix: Prefix, texts: Sequence[Sequence[int]]
    ) -> tuple[list[Branch], torch.Tensor]:
        """Begin branches.

        Args:
            prefix: what they begin with.
            texts: the tokens of each after the prefix, one at least.

        Returns:
            The branches, and the logits after them, [branches, vocabulary].
        """
        rows = self._cache.rows
        rows.slots = max(rows.slots, prefix.length + max(map(len, texts)) + self._room)
        branches = []
        logits = []
        for chunk in self._chunks(texts):
            logits.append(self._append(prefix, chunk))
            end = prefix.length
            for text in chunk:
                length = prefix.length + len(text)
                branch = self._take_row(prefix.number, prefix.length, length)
                if self._held[branch.row] != prefix.number:
                    self._cache.write(branch.row, 0, prefix.cache, slice(0, prefix.length))
                    self._held[branch.row] = prefix.number
                own = slice(end, end + len(text))
                self._cache.write(branch.row, prefix.length, prefix.cache, own)
                end += len(text)
                branches.append(branch)
            prefix.cache.crop(prefix.length - end)
        return branches, torch.cat(logits)

    def fork(self, branch: Branch) -> Branch:
        """A new branch with the same text."""
        new = self._take_row(branch.prefix, branch.prefix_length, branch.length)
        self._copy(branch, new.row)
        return new

    def release(self, branch: Branch) -> None:
        """Forget a branch."""
        self._branches[branch.row] = None

    def step(self, branches: Sequence[Branch], tokens: Sequence[int]) -> torch.Tensor:
        """Append a token to every branch.

        Args:
            branches: all there are, in any order.
            tokens: one for each.

        Returns:
            The logits after them, [branches, vocabulary].
        """
        self._close_ranks()
        order = [branch.row for branch in branches]
        ids, lengths = [[0]] * len(order), [0] * len(order)
        for branch, token in zip(branches, tokens, strict=True):
            ids[branch.row], lengths[branch.row] = [token], branch.length
            branch.length += 1
        rows = self._cache.rows
        rows.positions, rows.shown = self._tensor(lengths), max(lengths) + 1
        positions = rows.positions[:, None]
        later = torch.arange(rows.shown, device=self._device) > positions
        mask = torch.zeros_like(later, dtype=self._dtype).masked_fill(later, self._hidden)
        ours = attending(self._model, step_attention(mask)) if self._attends else nullcontext()
        with ours:
            logits = self._forward(ids, positions, self._cache, mask[:, None, None])[:, -1]
        return logits if order == list(range(len(order))) else logits[order]

    def _chunks(self, texts: Sequence[Sequence[int]]) -> Iterator[list[Sequence[int]]]:
        """Cut up texts into forwards; a text that is too long for one gets one of its own."""
        chunk: list[Sequence[int]] = []
        tokens = 0
        for text in texts:
            if chunk and tokens + len(text) > self._most_tokens:
                yield chunk
                chunk, tokens = [], 0
            chunk.append(text)
            tokens += len(text)
        yield chunk

    def _append(self, prefix: Prefix, texts: Sequence[Sequence[int]]) -> torch.Tensor:
        """Append texts to a prefix's cache, none seeing another; logits [texts, vocabulary]."""
        start = prefix.length
        ids = [token for text in texts for token in text]
        positions = [start + n for text in texts for n in range(len(text))]
        mask = torch.full((len(ids), start + len(ids)), self._hidden, dtype=self._dtype)
        mask[:, :start] = 0
        ends: list[int] = []
        end = 0
        for text in texts:
            own = slice(end, end + len(text))
            mask[own, start + own.start : start + own.stop].triu_(1)
            end = own.stop
            ends.append(end - 1)
        last = self._tensor(ends)
        mask = mask[None, None].to(self._device)
        logits = self._forward([ids], self._tensor([positions]), prefix.cache, mask, last)[0]
        return logits if self._keeps_logits else logits[last]

    def _forward(
        self,
        ids: Sequence[Sequence[int]],
        positions: torch.Tensor,
        cache: DynamicCache,
        mask: torch.Tensor | None = None,
        keep: torch.Tensor | int = 0,
    ) -> torch.Tensor:
        """Logits [rows, tokens, vocabulary], only at ``keep`` where the model can choose."""
        logits: torch.Tensor = self._model(
            input_ids=self._tensor(ids),
            position_ids=positions,
            attention_mask=mask,
            past_key_values=cache,
            use_cache=True,
            **({"logits_to_keep": keep} if self._keeps_logits else {}),
        ).logits
        return logits

    def _tensor(self, numbers: Sequence[Any]) -> torch.Tensor:
        return torch.tensor(numbers, dtype=torch.long, device=self._device)

    def _take_row(self, prefix: int, prefix_length: int, length: int) -> Branch:
        branch = Branch(prefix, prefix_length, length, self._branches.index(None))
        self._branches[branch.row] = branch
        return branch

    def _close_ranks(self) -> None:
        """Move branches so that they are in the first rows."""
        branches = [branch for branch in self._branches if branch is not None]
        for branch in branches:
            if branch.row >= len(branches):
                row = self._branches.index(None)
                self._copy(branch, row)
                self._branches[branch.row] = None
                self._branches[row] = branch
                branch.row = row

    def _copy(self, branch: Branch, row: int) -> None:
        """Copy a branch's keys and values to a row; the prefix only if it is not there."""
        start = branch.prefix_length if self._held[row] == branch.prefix else 0
        self._cache.copy(branch.row, row, slice(start, branch.length))
        self._held[row] = branch.prefix


@dataclass
class _Rows:
    """What the layers of a cache have in common.

    It stands apart from the cache: layers that knew the cache would keep it, and gigabytes with it, until
    Python looks for cycles.

    Attributes:
        count: texts to hold memory for.
        slots: tokens of each to hold memory for, from the next write on.
        positions: place of the next token of each of the first rows.
        shown: how much of the rows the attention goes over.
    """

    count: int
    slots: int = 0
    positions: torch.Tensor = field(default_factory=lambda: torch.empty(0, dtype=torch.long))
    shown: int = 0


class _RowCache(DynamicCache):
    """A cache with a row for each text, written in place, each row at its own length."""

    def __init__(self, rows: _Rows) -> None:
        super().__init__()
        self.rows = rows
        self.layer_class_to_replicate = partial(_RowLayer, rows)

    def write(self, row: int, start: int, source: DynamicCache, tokens: slice) -> None:
        """Copy tokens of a cache of one text into a row, from the place ``start`` on."""
        for number, layer in enumerate(source.layers):
            if number == len(self.layers):
                self.layers.append(_RowLayer(self.rows))
            self.layers[number].write(
                row, start, layer.keys[0, :, tokens], layer.values[0, :, tokens]
            )

    def copy(self, source: int, target: int, tokens: slice) -> None:
        """Copy tokens of a row to another, at the same places."""
        for layer in self.layers:
            for states in (layer.keys, layer.values):
                states[target, :, tokens] = states[source, :, tokens]


class _RowLayer(DynamicLayer):
    """One layer's keys and values, [rows, heads, slots, head size]."""

    def __init__(self, rows: _Rows) -> None:
        super().__init__()
        self.keys: Any = None
        self.values: Any = None
        self._rows = rows

    def write(self, row: int, start: int, keys: torch.Tensor, values: torch.Tensor) -> None:
        """Put tokens, [heads, tokens, head size], into a row."""
        end = start + keys.shape[1]
        self.keys = self._enlarged(self.keys, keys)
        self.values = self._enlarged(self.values, values)
        self.is_initialized = True
        self.keys[row, :, start:end] = keys
        self.values[row, :, start:end] = values

    def _enlarged(self, states: torch.Tensor | None, new: torch.Tensor) -> torch.Tensor:
        held = 0 if states is None else states.shape[2]
        if states is not None and held >= self._rows.slots:
            return states
        # Zeros, since what is hidden is multiplied by 0, and garbage may be infinite.
        size = (self._rows.count, new.shape[0], self._rows.slots, new.shape[2])
        larger = new.new_zeros(size)
        if states is not None:
            larger[:, :, :held] = states
        return larger

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *args: Any, **kwargs: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Append a token to each of the first rows, at the places that `_Rows` says.

        Takes keys and values, [rows, heads, 1, head size]; returns views of what these rows hold,
        [rows, heads, shown, head size]. Other arguments are ignored, as by the parent class.
        """
        rows = torch.arange(len(key_states), device=key_states.device)
        self.keys[rows, :, self._rows.positions] = key_states[:, :, 0]
        self.values[rows, :, self._rows.positions] = value_states[:, :, 0]
        shown = slice(0, self._rows.shown)
        return self.keys[: len(rows), :, shown], self.values[: len(rows), :, shown]

    def get_seq_length(self) -> int:
        """Tokens that the attention goes over."""
        return self._rows.shown
