"""The section ``trainer``: what matters of transformers' TrainingArguments, under its usual names."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from qc_experiments.config.metrics import LOSS
from qc_experiments.config.ranges import Range, at_least, check_ranges, one_of, setting
from qc_experiments.errors import UserError
from qc_experiments.system.processes import world_size
from qc_experiments.system.words import counted

DEFAULT_MICRO_BATCH = 8
"""Rows that a device computes at once where neither this nor the effective batch is given."""
SCHEDULERS = ("linear", "cosine", "constant", "constant_with_warmup", "polynomial", "inverse_sqrt")
UNIT = Range("above 0 and below 1", lambda value: 0 < value < 1)


class Strategy(Enum):
    """When something recurring happens in training."""

    never = "never"
    steps = "steps"
    epoch = "epoch"


@dataclass(frozen=True)
class TrainerConfig:
    """What matters of transformers' TrainingArguments, under its usual names."""

    learning_rate: float = setting(5e-4, UNIT)
    """Peak learning rate."""
    per_device_train_batch_size: int | None = setting(None, at_least(1))
    """Rows of a micro-batch on each device; null follows ``effective_batch_size``, else 8."""
    gradient_accumulation_steps: int = setting(1, at_least(1))
    """Micro-batches whose gradients are summed into one optimizer step."""
    effective_batch_size: int | None = setting(None, at_least(1))
    """Rows of one optimizer step over all devices; null: micro-batch x accumulation x devices."""
    max_steps: int | None = setting(None, at_least(0))
    """Optimizer steps; null trains ``num_train_epochs``; 0 trains nothing and only measures."""
    num_train_epochs: float = setting(
        3.0, Range("above 0 and below a million", lambda value: 0 < value < 1e6)
    )
    """Passes over the training rows (when ``max_steps`` is null)."""
    lr_scheduler_type: str = setting("linear", one_of(*SCHEDULERS))
    """Course of the learning rate after warm-up."""
    warmup_steps: float = setting(0.0, at_least(0))
    """Steps of linear warm-up; a value below 1 is a share of all steps. The scheduler ``constant`` has none
    (``constant_with_warmup`` has)."""
    weight_decay: float = setting(0.0, at_least(0))
    """AdamW's decoupled weight decay."""
    adam_beta2: float = setting(0.999, UNIT)
    """AdamW's decay of the second moment."""
    max_grad_norm: float = setting(1.0, at_least(0))
    """Gradients are scaled down to this norm; 0 switches clipping off."""
    optim: str = "adamw_torch"
    """Optimizer by transformers' name (adamw_torch, paged_adamw_8bit, ...)."""
    gradient_checkpointing: bool = False
    """Recompute activations in the backward pass: less memory, about a third slower."""
    full_determinism: bool = False
    """Whether a GPU computes the same to the last bit at each start, slower; a CPU does so anyway."""
    eval_strategy: Strategy = Strategy.epoch
    """When the validation rows are measured during training."""
    eval_steps: int | None = setting(None, at_least(1))
    """Steps between measurements with ``eval_strategy=steps``."""
    save_strategy: Strategy = Strategy.epoch
    """When a checkpoint is written."""
    save_steps: int | None = setting(None, at_least(1))
    """Steps between checkpoints with ``save_strategy=steps``."""
    save_total_limit: int | None = setting(2, at_least(1))
    """Checkpoints kept (the best one is always kept); null keeps all."""
    load_best_model_at_end: bool = True
    """Whether the best checkpoint, not the last, becomes the adapter."""
    metric_for_best_model: str = LOSS.key
    """Metric by which the best checkpoint is chosen, measured at each evaluation."""
    early_stopping_patience: int | None = setting(None, at_least(1))
    """Evaluations without improvement after which training ends; null never ends early."""
    logging_steps: int = setting(5, at_least(1))
    """Steps between lines of ``metrics.jsonl``."""
    dataloader_num_workers: int = setting(0, at_least(0))
    """Processes that prepare batches; 0 prepares them in the main process."""

    def __post_init__(self) -> None:
        check_ranges(self, "trainer")
        for what in ("eval", "save"):
            steps = getattr(self, f"{what}_steps")
            if getattr(self, f"{what}_strategy") is Strategy.steps and steps is None:
                raise UserError(
                    f"trainer.{what}_strategy=steps needs trainer.{what}_steps (a number of steps)"
                )
        self._check_best_checkpoint()
        self.micro_batch_size()

    def _check_best_checkpoint(self) -> None:
        evaluates = self.eval_strategy is not Strategy.never
        if self.early_stopping_patience is not None and not evaluates:
            raise UserError(
                "trainer.early_stopping_patience needs evaluations during training: "
                "set trainer.eval_strategy to epoch or steps"
            )
        if not self.load_best_model_at_end:
            return
        if not evaluates:
            raise UserError(
                "trainer.load_best_model_at_end=true needs evaluations during training: set "
                "trainer.eval_strategy to epoch or steps, or trainer.load_best_model_at_end=false"
            )
        same = self.eval_strategy is self.save_strategy
        if same and self.eval_strategy is Strategy.steps:
            same = self.save_steps == self.eval_steps
        if not same:
            raise UserError(
                "trainer.load_best_model_at_end=true needs a checkpoint wherever it evaluates: set "
                "trainer.save_strategy as trainer.eval_strategy, trainer.save_steps as "
                "trainer.eval_steps, or trainer.load_best_model_at_end=false"
            )

    def micro_batch_size(self) -> int:
        """Rows that one device computes at once.

        That is ``per_device_train_batch_size`` if given, else what ``effective_batch_size`` leaves for
        one device and one accumulation step, else 8; a `UserError` if the three contradict each other.
        """
        devices = counted(world_size(), "device")
        shards = self.gradient_accumulation_steps * world_size()
        given = self.per_device_train_batch_size
        if self.effective_batch_size is None:
            return given if given is not None else DEFAULT_MICRO_BATCH
        if given is not None and given * shards != self.effective_batch_size:
            raise UserError(
                f"trainer.effective_batch_size={self.effective_batch_size} contradicts "
                f"trainer.per_device_train_batch_size={given} x gradient_accumulation_steps="
                f"{self.gradient_accumulation_steps} x {devices} = {given * shards}: "
                "set trainer.per_device_train_batch_size=null to let it follow"
            )
        if self.effective_batch_size % shards:
            raise UserError(
                f"trainer.gradient_accumulation_steps={self.gradient_accumulation_steps} x "
                f"{devices} does not divide trainer.effective_batch_size="
                f"{self.effective_batch_size}: choose numbers that divide it"
            )
        return self.effective_batch_size // shards

    def rows_per_step(self) -> int:
        """Effective batch size: rows of one optimizer step over all devices."""
        return self.micro_batch_size() * self.gradient_accumulation_steps * world_size()
