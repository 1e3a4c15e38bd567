"""Whether a run computes rows packed, and how they attend: what gives the gradients of padded rows."""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from qc_experiments.config.schema import PackAttention
from qc_experiments.data.encode import Example
from qc_experiments.errors import UserError, in_one_line
from qc_experiments.models.device import GPU
from qc_experiments.packing.agreement import PackAgreement, cannot_pack
from qc_experiments.system.memory import out_of_memory

log = logging.getLogger(__name__)

GOES_ON = "this run goes on with padded rows, as collator=seq2seq"
PADDED = "padded"


@dataclass(frozen=True)
class PackChoice:
    """How rows are computed."""

    attention: PackAttention | None  # within packs; None: rows are padded
    difference: float | None = None  # of the gradients from those of padded rows, relative to them

    @property
    def name(self) -> str:
        """As ``result.json`` has it: ``blocks``, ``mask``, ``flex`` or ``padded``."""
        return PADDED if self.attention is None else self.attention.value


def choose(
    model: Any, rows: Sequence[Example], asked: PackAttention, agreement: PackAgreement
) -> PackChoice:
    """Compare a few rows packed with the same rows padded; says why a run goes on with padded ones."""
    if reason := cannot_pack(model):
        kind = model.config.get_text_config().model_type
        log.warning("collator=shared_schema: %s cannot be packed (%s): %s", kind, reason, GOES_ON)
        return PackChoice(None)
    difference: float | None = None
    drops = getattr(model.config.get_text_config(), "attention_dropout", 0.0)
    if drops and asked is PackAttention.flex:
        raise UserError(
            f"collator.attention=flex: this model drops attention in training (attention_dropout={drops:g}), "
            "which FlexAttention cannot: take collator.attention=blocks"
        )
    for attention in _candidates(asked, model.device.type, drops=bool(drops)):
        try:
            away = agreement.difference(model, rows, gradients=True, attention=attention)
        except (ImportError, RuntimeError, NotImplementedError) as error:
            if attention is not PackAttention.flex or out_of_memory(error):
                raise
            reason = in_one_line(
                error
            )  # what compiles it may lack a compiler, or not know the card
            if asked is PackAttention.flex:
                raise UserError(
                    f"collator.attention=flex: fails here ({reason}): take collator.attention=blocks"
                ) from error
            log.warning(
                "Attention within packs goes on in blocks; FlexAttention fails (%s)", reason
            )
            continue
        if away.is_rounding:
            return PackChoice(attention, away.found)
        difference = away.found if math.isfinite(away.found) else None
        log.warning(
            "collator=shared_schema: packed rows give other gradients than padded ones (attention by %s, "
            "relative difference %.2g)",
            attention.value,
            away.found,
        )
    log.warning("collator=shared_schema: %s", GOES_ON)
    return PackChoice(None, difference)


def _candidates(asked: PackAttention, device: str, *, drops: bool) -> tuple[PackAttention, ...]:
    if asked is not PackAttention.auto:
        return (asked,)
    blocks = (PackAttention.blocks,)
    return (PackAttention.flex, *blocks) if device == GPU and not drops else blocks
