"""Memory that a process keeps, gives back, and has held at most."""

from __future__ import annotations

import errno
import platform
import signal
import sys
from pathlib import Path

import pytest
import torch
from helpers.runs import child

from qc_experiments.config.schema import CollatorConfig, RunConfig, TrainerConfig
from qc_experiments.sweeps.worker import _cause
from qc_experiments.system.memory import out_of_memory
from qc_experiments.training.out_of_memory import explain_shortage

LINUX = pytest.mark.skipif(
    not sys.platform.startswith("linux"), reason="glibc and /proc are Linux's"
)


def printed(code: str) -> str:
    done = child("-c", code)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@LINUX
def test_memory_is_kept_where_the_c_library_is_glibc():
    found = printed("from qc_experiments.system.memory import keep_memory; print(keep_memory())")
    assert found == str(platform.libc_ver()[0] == "glibc")


@LINUX
@pytest.mark.slow
def test_the_peak_of_one_job_is_not_that_of_the_next():
    """The worker of a sweep keeps freed memory; each job's peak must be its own."""
    code = """
import torch
from qc_experiments.system.memory import give_memory_back, keep_memory, peak_memory_bytes
keep_memory()
start = peak_memory_bytes()
big = [torch.ones(1 << 20) for _ in range(400)]
first = peak_memory_bytes()
del big
give_memory_back()
print((first - start) >> 20, (peak_memory_bytes() - start) >> 20)
"""
    first, second = map(int, printed(code).split())
    assert first > 1500
    assert second < 200


def test_a_lack_of_memory_is_told_with_what_can_be_changed():
    trainer = TrainerConfig(per_device_train_batch_size=8, gradient_accumulation_steps=2)
    with pytest.raises(RuntimeError) as caught:
        torch.empty(1 << 50)
    padded = RunConfig(trainer=trainer, collator=CollatorConfig(name="seq2seq"))
    found = str(explain_shortage(caught.value, padded, Path("run")))
    assert found.startswith("out of memory (")
    assert (
        "trainer.per_device_train_batch_size=4 with trainer.gradient_accumulation_steps=4" in found
    )
    assert "quant=4bit" in found
    packed = RunConfig(collator=CollatorConfig(name="shared_schema"))
    found = str(explain_shortage(MemoryError(), packed, Path("run")))
    assert "try a smaller collator.max_tokens, or " in found
    assert found.endswith(
        "a smaller model (the training then starts over), or evaluation.batch_size below 16 (it then "
        "goes on)"
    )
    # What the system has killed is told the same.
    assert _cause(-signal.SIGKILL, packed).endswith(found.partition(": ")[2])


@LINUX
def test_what_a_training_holds_in_vain_is_given_back():
    code = """
import psutil, torch
from qc_experiments.system.memory import Trimmer, keep_memory
keep_memory()
trimmer, process = Trimmer(), psutil.Process()
step = [torch.ones(1 << 20) for _ in range(50)]
del step
print(trimmer.step_ended())
kept = [(torch.ones(1 << 20), torch.ones(1000)) for _ in range(400)]
kept = [small for _, small in kept]  # holes between what is still there
before = process.memory_info().rss
print(trimmer.step_ended(), (before - process.memory_info().rss) >> 20)
"""
    first, second, given_back = printed(code).split()
    assert (first, second) == ("False", "True")
    assert int(given_back) > 1000


def test_an_operation_without_a_fixed_order_is_told_with_the_setting():
    torch.use_deterministic_algorithms(True)
    try:
        with pytest.raises(RuntimeError) as caught:
            torch.nn.functional.max_unpool1d(torch.ones(1, 1, 2), torch.tensor([[[0, 2]]]), 2)
    finally:
        torch.use_deterministic_algorithms(False)
    told = str(explain_shortage(caught.value, RunConfig(), Path("run")))
    assert told.startswith("trainer.full_determinism=true: max_unpool")
    assert "leave it out" in told


@pytest.mark.parametrize(
    "said",
    [
        "CUDA out of memory. Tried to allocate 2.00 GiB",
        "CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`",
        "cuDNN error: CUDNN_STATUS_ALLOC_FAILED",
    ],
)
def test_what_a_gpus_libraries_say_of_memory_is_understood(said):
    assert out_of_memory(RuntimeError(said))
    assert not out_of_memory(RuntimeError("CUDA error: an illegal memory access was encountered"))


def test_weights_that_do_not_fit_are_not_answered_with_smaller_batches(train, refused, monkeypatch):
    from transformers import AutoModelForCausalLM

    monkeypatch.setattr(
        AutoModelForCausalLM, "from_pretrained", lambda *_, **__: torch.empty(1 << 50)
    )
    line = refused(train)
    assert "while its weights were loaded" in line
    assert "quant=4bit" in line
    assert "batch" not in line


def test_a_full_disk_is_told_wherever_it_is_met():
    full = OSError(errno.ENOSPC, "No space left on device", "metrics.jsonl")
    found = str(explain_shortage(full, RunConfig(), Path("run")))
    assert found.startswith("run: cannot be written")
    assert "make room" in found
    missing = FileNotFoundError(errno.ENOENT, "No such file")
    assert explain_shortage(missing, RunConfig(), Path("run")) is None


def test_other_errors_are_not_taken_for_a_lack_of_memory():
    assert explain_shortage(RuntimeError("shapes do not match"), RunConfig(), Path("run")) is None
    assert explain_shortage(ValueError("out of memory?"), RunConfig(), Path("run")) is None
