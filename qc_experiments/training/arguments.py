"""Turn the trainer section into transformers' TrainingArguments."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from transformers import TrainingArguments

from qc_experiments.config.schema import RunConfig, Strategy
from qc_experiments.models.base import only_cpu

_STRATEGY = {Strategy.never: "no", Strategy.steps: "steps", Strategy.epoch: "epoch"}


def training_arguments(config: RunConfig, checkpoints: Path, dtype: Any) -> TrainingArguments:
    """The arguments of the Trainer."""
    import torch

    trainer = config.trainer
    on_gpu = torch.cuda.is_available()
    best: dict[str, Any] = {}
    if trainer.eval_strategy is not Strategy.never:
        metric = config.metric(trainer.metric_for_best_model)
        best = {
            "metric_for_best_model": metric.logged_as,
            "greater_is_better": metric.higher_is_better,
            "load_best_model_at_end": trainer.load_best_model_at_end,
        }
    return TrainingArguments(
        output_dir=str(checkpoints),
        learning_rate=trainer.learning_rate,
        per_device_train_batch_size=trainer.micro_batch_size(),
        gradient_accumulation_steps=trainer.gradient_accumulation_steps,
        max_steps=-1 if trainer.max_steps is None else trainer.max_steps,
        num_train_epochs=trainer.num_train_epochs,
        lr_scheduler_type=trainer.lr_scheduler_type,
        warmup_steps=_whole(trainer.warmup_steps),
        weight_decay=trainer.weight_decay,
        adam_beta2=trainer.adam_beta2,
        max_grad_norm=trainer.max_grad_norm,
        optim=trainer.optim,
        activation_checkpointing=trainer.gradient_checkpointing,
        activation_checkpointing_kwargs={"use_reentrant": False},
        eval_strategy=_STRATEGY[trainer.eval_strategy],
        eval_steps=trainer.eval_steps,
        save_strategy=_STRATEGY[trainer.save_strategy],
        save_steps=trainer.save_steps or 500,
        save_total_limit=None,  # CheckpointStore.prune keeps the newest and the best
        logging_strategy="steps",
        logging_steps=trainer.logging_steps,
        logging_first_step=True,
        logging_nan_inf_filter=False,  # a NaN must be seen
        dataloader_num_workers=trainer.dataloader_num_workers,
        dataloader_pin_memory=on_gpu,
        remove_unused_columns=False,
        bf16=on_gpu and dtype is torch.bfloat16,
        fp16=on_gpu and dtype is torch.float16,
        seed=config.seed,
        data_seed=config.seed,
        report_to="none",
        use_cpu=only_cpu(),
        disable_tqdm=True,
        **best,
    )


def _whole(warmup: float) -> float | int:
    # The Trainer takes a value below 1 for a share of all steps, and wants whole numbers otherwise.
    return warmup if warmup < 1 else int(warmup)
