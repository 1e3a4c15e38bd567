"""Jobs of a sweep that run at the same time on one machine share its cores."""

from __future__ import annotations

import pytest

from qc_experiments.config.compose import register_schema
from qc_experiments.sweeps.preview import plan_sweep
from qc_experiments.system.processes import usable_cores

JOBLIB = "hydra/launcher=joblib"
CORES = usable_cores()


@pytest.fixture(autouse=True)
def _no_choice_of_the_user(monkeypatch):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    register_schema()


@pytest.mark.parametrize(
    ("settings", "at_once", "threads"),
    [
        (["lora.r=8,16"], 1, None),  # one after the other, each with all cores
        ([JOBLIB, "hydra.launcher.n_jobs=2", "lora.r=8,16,32"], 2, max(1, CORES // 2)),
        ([JOBLIB, "hydra.launcher.n_jobs=64", "lora.r=8,16,32"], 3, max(1, CORES // 3)),
        ([JOBLIB, "hydra.launcher.n_jobs=2", "lora.r=8"], 1, None),
        ([JOBLIB, f"lora.r={','.join(map(str, range(1, 65)))}"], min(64, CORES), 1),
        (["hydra/launcher=submitit_local", "lora.r=8,16"], 2, max(1, CORES // 2)),
        (["hydra/launcher=submitit_slurm", "lora.r=8,16"], 1, None),  # each on a machine of its own
    ],
)
def test_a_job_gets_its_share_of_the_cores(settings, at_once, threads):
    plan = plan_sweep(settings, None)
    assert plan is not None
    assert plan.at_once == at_once
    assert plan.threads_per_job() == (threads if at_once > 1 else None)


def test_the_users_own_number_of_threads_holds(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    plan = plan_sweep([JOBLIB, "hydra.launcher.n_jobs=2", "lora.r=8,16"], None)
    assert plan is not None
    assert plan.threads_per_job() is None


def test_it_is_said_before_the_sweep_starts():
    plan = plan_sweep([JOBLIB, "hydra.launcher.n_jobs=2", "lora.r=8,16"], None)
    assert plan is not None
    assert f"; 2 jobs at once, {plan.threads_per_job()} thread" in plan.text()
