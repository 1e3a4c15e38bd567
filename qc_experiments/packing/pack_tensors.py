"""A pack's numbers as tensors: made once, where the batch is made, and moved to the device in two pieces."""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from qc_experiments.packing.prefix_tree import Pack


@dataclass(frozen=True)
class PackTensors:
    """A pack that can be computed; ``pin_memory`` and ``to`` are called by loaders of batches."""

    pack: Pack
    tokens: Tensor  # ids, places in their rows, enter and exit of their nodes, [4, length]
    labels: Tensor  # places that predict, labels, how many rows have each, [3, labels]

    @classmethod
    def of(cls, pack: Pack | PackTensors, device: Any = "cpu") -> PackTensors:
        """A pack's tensors on a device."""
        if isinstance(pack, PackTensors):
            return pack.to(device)
        lengths = torch.tensor([node.end - node.start for node in pack.nodes])
        spans = torch.tensor([[node.start for node in pack.nodes], [n.exit for n in pack.nodes]])
        ids = torch.tensor([pack.input_ids, pack.position_ids])
        tokens = torch.cat([ids, spans.repeat_interleave(lengths, dim=1)])
        labels = [pack.label_places, pack.label_targets, pack.label_weights]
        return cls(pack, tokens, torch.tensor(labels, dtype=torch.long)).to(device)

    def __len__(self) -> int:
        """Tokens that are computed."""
        return len(self.pack)

    @property
    def positions(self) -> Tensor:
        """Each token's place in its row, [length]."""
        return self.tokens[1]

    @property
    def enter(self) -> Tensor:
        """Place of the first token of each token's node, [length]."""
        return self.tokens[2]

    @property
    def leave(self) -> Tensor:
        """Place after the subtree of each token's node, [length]."""
        return self.tokens[3]

    def inputs(self, span: tuple[int, int]) -> dict[str, Tensor]:
        """What a model is called with in a pass."""
        ids, positions = self.tokens[:2, slice(*span)]
        return {"input_ids": ids[None], "position_ids": positions[None]}

    def labels_within(self, span: tuple[int, int]) -> tuple[Tensor, Tensor, Tensor]:
        """Of the labels of a pass: their places from its start on, themselves, and rows, each [labels]."""
        first, last = (bisect_left(self.pack.label_places, place) for place in span)
        places, labels, rows = self.labels[:, first:last]
        return places - span[0], labels, rows

    def to(self, device: Any, non_blocking: bool = False) -> PackTensors:
        """The same on another device."""
        if self.tokens.device == torch.device(device):
            return self
        moved = (one.to(device, non_blocking=non_blocking) for one in (self.tokens, self.labels))
        return PackTensors(self.pack, *moved)

    def pin_memory(self) -> PackTensors:
        """The same in memory from which a GPU copies while the CPU goes on."""
        tokens, labels = self.tokens.pin_memory(), self.labels.pin_memory()
        return replace(self, tokens=tokens, labels=labels)
