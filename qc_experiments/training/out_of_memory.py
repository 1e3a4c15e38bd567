"""What a run asks of a machine and does not get (memory, disk, an order of sums), told in one line."""

from __future__ import annotations

import re
from pathlib import Path

from qc_experiments.config.schema import QuantMode, RunConfig
from qc_experiments.errors import UserError
from qc_experiments.system.files import FULL
from qc_experiments.system.memory import out_of_memory

NO_ORDER = "does not have a deterministic implementation"
"""What torch says of an operation under `torch.use_deterministic_algorithms`."""


def explain_shortage(error: BaseException, config: RunConfig, folder: Path) -> UserError | None:
    """What the user can change, where an exception says that memory or disk has run out, else None."""
    if isinstance(error, UserError):
        return None
    if isinstance(error, OSError) and error.errno in FULL:
        return UserError(
            f"{folder}: cannot be written ({error.strerror}): make room and run the same command again"
        )
    if NO_ORDER in str(error):
        return UserError(
            f"trainer.full_determinism=true: {str(error).split('.')[0]}: leave it out, or do without what "
            "needs that operation"
        )
    if out_of_memory(error):
        asked = re.search(r"allocate ([\d.]+) ?(\w+)", str(error))
        reason = f" ({asked[1]} {asked[2]} more were asked for)" if asked else ""
        return UserError(f"out of memory{reason}: {memory_advice(config)}")
    return None


def memory_advice(config: RunConfig) -> str:
    """What takes less memory: what makes another run, and what goes on with this one."""
    rows = config.trainer.micro_batch_size()
    steps = config.trainer.gradient_accumulation_steps
    remedies = []
    if config.collator.name == "shared_schema":
        remedies.append("a smaller collator.max_tokens")
    elif rows > 1:
        remedies.append(
            f"trainer.per_device_train_batch_size={(rows + 1) // 2} with "
            f"trainer.gradient_accumulation_steps={2 * steps}"
        )
    if not config.trainer.gradient_checkpointing:
        remedies.append("trainer.gradient_checkpointing=true")
    if not config.lora.enabled:
        remedies.append("lora=r16")
    elif config.quant.mode is QuantMode.none:
        remedies.append("quant=4bit")
    remedies.append("a smaller model")
    advice = f"try {', or '.join(remedies)} (the training then starts over)"
    if (at_once := config.evaluation.batch_size) > 1:
        advice += f", or evaluation.batch_size below {at_once} (it then goes on)"
    return advice
