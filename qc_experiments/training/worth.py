"""Whether what was saved is worth what was trained: its loss on a few rows, before it is called saved."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel
from torch import Tensor
from torch.nn.functional import cross_entropy

from qc_experiments.config.schema import RunConfig, changes_base, shifts_base
from qc_experiments.data.encode import IGNORED
from qc_experiments.errors import UserError
from qc_experiments.models.base import NoRoomForWeightsError, load_base_model
from qc_experiments.models.device import precision_of, to_train
from qc_experiments.models.loss import evaluating, pad_batch
from qc_experiments.system.memory import out_of_memory
from qc_experiments.training.plan import Plan

log = logging.getLogger(__name__)

ROWS = 2  # rows on which the loss is taken, the shortest there are
AGREEMENT = 1e-3  # nats by which the loss of a label may differ on average
COARSE_AGREEMENT = 0.1  # the same where a part was taken out of 16-bit weights, and rounded there
SAVED = "saved"  # what the saved adapter is called beside the trained one


def check_worth(model: Any, folder: Path, config: RunConfig, plan: Plan) -> None:
    """Compare the loss of what was saved with that of the model it was saved from.

    An adapter on an unchanged base is loaded beside the trained one; where the training has changed the
    base (PiSSA, OLoRA, full fine-tuning), the base or the whole model is loaded again.
    """
    rows = sorted(plan.validation or plan.train, key=len)[:ROWS]
    batch = pad_batch(rows, plan.tokenizer.pad_token_id)
    precision = precision_of(config.model, trained_weights=not config.lora.enabled)
    with precision():
        expected = _losses(model, batch)
    if not expected.isfinite().all():
        return  # a training that diverged is told of elsewhere
    try:
        with _as_saved(model, folder, config, plan) as saved, precision():
            found = _losses(saved, batch)
    except (RuntimeError, MemoryError, NoRoomForWeightsError) as error:
        if not (isinstance(error, NoRoomForWeightsError) or out_of_memory(error)):
            raise
        log.warning("%s: memory did not suffice to load it again and check its loss", folder.name)
        return
    rounded = shifts_base(config.lora) and model.dtype != torch.float32
    away = float((found - expected).abs().mean())
    if not away <= (COARSE_AGREEMENT if rounded else AGREEMENT):
        raise UserError(
            f"{folder}: what was saved has a loss of {float(found.mean()):.4f} on {len(rows)} rows, the "
            f"trained model {float(expected.mean()):.4f}: it is not used; please report this with the "
            "run's config.yaml"
        )


@contextmanager
def _as_saved(model: Any, folder: Path, config: RunConfig, plan: Plan) -> Iterator[Any]:
    """The model as it is loaded from its folder."""
    if not config.lora.enabled:
        whole = replace(plan.source, name_or_path=str(folder), revision=None, gguf_file=None)
        yield load_base_model(whole, to_train(config), config.quant)
    elif changes_base(config.lora):
        base = load_base_model(plan.source, to_train(config), config.quant)
        yield PeftModel.from_pretrained(base, str(folder)).eval()
    else:
        trained = model.active_adapter
        with torch.random.fork_rng():
            model.load_adapter(str(folder), SAVED, torch_device=str(model.device))
        try:
            model.set_adapter(SAVED)
            yield model
        finally:
            model.set_adapter(trained)
            model.delete_adapter(SAVED)


def _losses(model: Any, batch: dict[str, Tensor]) -> Tensor:
    """Loss of each label in nats, [labels]."""
    inputs = {k: batch[k].to(model.device) for k in ("input_ids", "attention_mask")}
    targets = batch["labels"][:, 1:].to(model.device)
    with evaluating(model):
        logits = model(**inputs, use_cache=False).logits[:, :-1]
    labelled = targets != IGNORED
    return cross_entropy(logits[labelled].float(), targets[labelled], reduction="none")
