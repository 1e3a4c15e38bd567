"""Jobs that run side by side get a GPU each; torch is not asked, so no GPU is needed here."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from qc_experiments.sweeps import gpus
from qc_experiments.sweeps.gpus import VISIBLE, ClaimedGpu, visible_gpus


@pytest.fixture(autouse=True)
def _own_locks(monkeypatch, tmp_path):
    monkeypatch.setattr(gpus.tempfile, "gettempdir", lambda: str(tmp_path))


def test_each_job_has_a_gpu_of_its_own_and_the_next_takes_the_one_that_is_free(monkeypatch):
    monkeypatch.setenv(VISIBLE, "0, GPU-1ab,5")
    jobs = [ClaimedGpu() for _ in range(3)]
    assert [job.environment[VISIBLE] for job in jobs] == ["0", "GPU-1ab", "5"]
    jobs[1].let_go()
    assert ClaimedGpu().environment[VISIBLE] == "GPU-1ab"


def test_more_jobs_than_gpus_share(monkeypatch):
    monkeypatch.setenv(VISIBLE, "0,1")
    held = [ClaimedGpu(), ClaimedGpu()]
    assert ClaimedGpu().environment[VISIBLE] in ("0", "1")
    assert len(held) == 2


@pytest.mark.parametrize("given", ["", "3", "-1"])
def test_where_there_is_no_choice_the_environment_stays(monkeypatch, given):
    monkeypatch.setenv(VISIBLE, given)
    assert ClaimedGpu().environment == {}


def test_a_link_that_somebody_has_laid_is_not_followed(monkeypatch, tmp_path):
    monkeypatch.setenv(VISIBLE, "0,1")
    precious = tmp_path / "precious"
    precious.write_text("kept")
    (tmp_path / f"qc_experiments_gpu_{os.getuid()}_0.lock").symlink_to(precious)
    assert ClaimedGpu().environment[VISIBLE] == "1"
    assert precious.read_text() == "kept"


def test_the_gpus_are_known_by_their_devices(monkeypatch, tmp_path):
    monkeypatch.delenv(VISIBLE, raising=False)
    for name in ("nvidia10", "nvidia2", "nvidiactl", "nvidia-uvm"):
        (tmp_path / name).touch()
    monkeypatch.setattr(gpus, "DEVICES", tmp_path)
    assert visible_gpus() == ["2", "10"]


def test_a_gpu_is_free_again_when_its_process_is_killed(tmp_path):
    code = (
        "import os, sys, tempfile\n"
        f"tempfile.gettempdir = lambda: {str(tmp_path)!r}\n"
        "from qc_experiments.sweeps.gpus import ClaimedGpu\n"
        "gpu = ClaimedGpu()\n"
        "print(gpu.environment['CUDA_VISIBLE_DEVICES'], flush=True)\n"
        "sys.stdin.read()\n"
    )
    environment = {**os.environ, VISIBLE: "0,1"}

    def start() -> subprocess.Popen[str]:
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
        return subprocess.Popen([sys.executable, "-c", code], env=environment, **pipes)

    one, other = start(), None
    try:
        assert one.stdout.readline() == "0\n"
        other = start()
        assert other.stdout.readline() == "1\n"
        one.kill()
        one.wait()
        one = start()
        assert one.stdout.readline() == "0\n"
    finally:
        for process in filter(None, (one, other)):
            process.kill()
            process.communicate()
