"""The story of one run, from a CSV and a template to an evaluated adapter; read `run` first."""

from __future__ import annotations

import hashlib
import logging
import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qc_experiments.config.schema import RunConfig, saved_rank
from qc_experiments.errors import UserError
from qc_experiments.models.base import model_source
from qc_experiments.models.device import precision_of, set_determinism, to_train
from qc_experiments.models.source import forget_failure
from qc_experiments.records.folder import RunFolder
from qc_experiments.runs.earlier import earlier_result
from qc_experiments.runs.identity import identify
from qc_experiments.runs.log import failures_recorded, logged
from qc_experiments.runs.provenance import environment
from qc_experiments.system.locking import locked
from qc_experiments.system.outputs import PRESET, output_paths
from qc_experiments.system.processes import refuse_sharded_weights
from qc_experiments.system.signals import StopRequests
from qc_experiments.tracking.tracker import check_tracking, open_tracker
from qc_experiments.training.inputs import RunData, load_data

if TYPE_CHECKING:
    from qc_experiments.generation.served import ModelServer
    from qc_experiments.judging.judge import Judge
    from qc_experiments.runs.kept import Kept
    from qc_experiments.runs.outcome import Prepared
    from qc_experiments.training.job import TrainingJob
    from qc_experiments.training.plan import Plan

log = logging.getLogger(__name__)


def run(config: RunConfig, share: float = 1.0, kept: Kept | None = None) -> dict[str, Any]:
    """Train and measure one model, or say what an earlier start of this run found.

    Nothing heavy is imported before the data has been checked, and nothing is written before
    everything that the user can mend has been checked.

    Args:
        config: the whole, checked config.
        share: of its optimizer steps that the run takes before it pauses; its next start goes on.
        kept: what this process keeps for its next run; None where there is none.

    Returns:
        The content of ``result.json``.

    Raises:
        UserError: for anything the user can mend.
    """
    refuse_sharded_weights()
    for key in ("device", "save"):
        if (value := getattr(config.plan, key)) is not None:
            raise UserError(
                f"plan.{key}={value}: is for qc plan; a run is computed where it is started: leave it out"
            )
    forget_failure()
    config, data = _chosen(config)
    folder = run_folder(config, data)
    known = earlier_result(config, folder, share, alone=kept is None)
    if known is not None:
        return known
    stop = StopRequests()
    with (
        _prepared(config, data, folder) as prepared,
        locked(folder.path) as held,
        stop.listening(),
    ):
        finished = folder.finished()
        if finished is not None:  # by another process, in the meantime
            return finished
        with folder.owned(held):
            plan = prepared.plan
            about = {"label": plan.source.label, "weights": plan.storage(config)}
            folder.claim(config, environment(folder.identity, prepared.data, about))
            with logged(folder):
                _announce(prepared)
                with failures_recorded(config, folder):
                    return _execute(prepared, stop, share, kept)


def run_folder(config: RunConfig, data: RunData) -> RunFolder:
    """The folder of a run: where it is or will be; nothing is made."""
    source = model_source(config.model, _cache(config), unpack=False)
    identity = identify(config, data, source.label, source.fingerprint)
    path = Path(config.paths.output).expanduser() / identity.name
    return RunFolder(path, identity, config.own_metrics())


def announce(config: RunConfig) -> None:
    """Say what `run` would do, without doing it; refuse all that it would refuse before it computes."""
    refuse_sharded_weights()
    config, data = _chosen(config)
    folder = run_folder(config, data)
    with _prepared(config, data, folder) as prepared:
        _announce(prepared)
    if folder.finished() is not None:
        log.info("This run has finished; its result is in %s", folder.path)


def _chosen(config: RunConfig) -> tuple[RunConfig, RunData]:
    """The config, with what is left open chosen where that is asked for, and its rows."""
    if config.plan.save is not None and not config.plan.auto:
        raise UserError(f"plan.save={config.plan.save}: goes with experiment=auto")
    files = [file for file, _ in config.data.train_files()]
    others = (config.data.validation, config.data.also_evaluate, config.data.databases)
    preset = output_paths(
        [("plan.save", config.plan.save, PRESET)],
        [*files, *others, config.data.template],
        makes_folders=True,
    )
    data = load_data(config)
    if not config.plan.auto:
        return config, data
    from qc_experiments.models.base import model_window
    from qc_experiments.training.auto_settings import choose_settings, with_key, write_preset

    window = model_window(model_source(to_train(config), _cache(config)))
    whole = with_key(config, "data.max_length", window or config.data.max_length)
    config, choices = choose_settings(config, plan_of(whole, data))
    for choice in choices:
        log.info("Chosen  %s: %s", choice.override(), choice.why)
    for path in preset.values():
        write_preset(path, choices)
        log.info("Saved   %s", path)
    return with_key(config, "plan.auto", False), data


def plan_of(config: RunConfig, data: RunData) -> Plan:
    """What a run will compute; a `UserError` for what cannot be computed."""
    from qc_experiments.training.plan import make_plan

    return make_plan(config, data, model_source(to_train(config), _cache(config)))


def _cache(config: RunConfig) -> Path:
    return Path(config.paths.cache).expanduser()


@contextmanager
def _prepared(config: RunConfig, data: RunData, folder: RunFolder) -> Iterator[Prepared]:
    """Check everything that the user can mend; the golds are run on their databases."""
    folder.check_owner(config)
    check_tracking(config.tracking)
    plan = plan_of(config, data)
    from qc_experiments.databases.engine import Limits
    from qc_experiments.evaluation.golds import check_golds
    from qc_experiments.judging.judge import Judge
    from qc_experiments.runs.outcome import Prepared

    rows = [example.row for example in plan.validation]
    data = data.asked(rows, config.evaluation.timeout)
    with Judge(
        data.judge_place,
        Limits(seconds=config.evaluation.timeout),
        cache=_cache(config),
        perturbed=config.evaluation.fuzz,
        seed=config.evaluation.seed,
    ) as judge:
        server = _server(config, plan, judge)
        warnings = check_golds(config, rows, data.validation_source, judge)
        yield Prepared(config, data, folder, plan, judge, warnings, server)


def _server(config: RunConfig, plan: Plan, judge: Judge) -> ModelServer | None:
    """What writes the answers in place of the model that is here; it is seen to be there."""
    asked = config.evaluation
    if asked.endpoint is None:
        return None
    from qc_experiments.generation.served import ModelServer

    server = ModelServer(asked, plan.encoder, plan.window, judge)
    has_adapter = bool(plan.steps) or config.model.adapter is not None
    longest = max(len(one.prompt_ids) for one in plan.validation) + asked.max_new_tokens
    longest = min(longest, plan.window or longest)  # those that are longer are not asked
    server.check(loads=has_adapter and asked.endpoint_model is None, longest=longest)
    return server


def _announce(run: Prepared) -> None:
    advice = (run.plan.sharing_advice(run.config), run.plan.warmup_advice(run.config))
    for line in (*run.data.decisions, *run.plan.decisions, *run.warnings, *advice):
        if line:
            log.warning("%s", line)
    for line in (f"Run     {run.folder.path}", *run.plan.lines(run.config)):
        log.info("%s", line)
    if run.server is not None:
        _announce_server(run, run.server)


def _announce_server(run: Prepared, server: ModelServer) -> None:
    config, base = run.config, server.base
    what = config.evaluation.endpoint_model or ""
    if base is not None:
        what = f"{base.name}, and an adapter of rank {saved_rank(config.lora)}"
    log.info("Asks    %s for answers: %s", config.evaluation.endpoint, what)
    name = config.model.name_or_path
    if base is not None and not base.may_be([name, run.plan.source.label]):
        log.warning("The server's base model is %s, this run's is %s: the same?", base.name, name)


def _execute(run: Prepared, stop: StopRequests, share: float, kept: Kept | None) -> dict[str, Any]:
    """Load the base model, train it, measure it before and after, write everything down."""
    import transformers

    from qc_experiments.evaluation.journal import Journal
    from qc_experiments.evaluation.processes import of_main_process
    from qc_experiments.models.base import load_base_model, silence_transformers
    from qc_experiments.runs.kept import Kept
    from qc_experiments.runs.outcome import trained_name, write_down, write_pause
    from qc_experiments.system.memory import keep_memory
    from qc_experiments.system.unfinished import code_mark
    from qc_experiments.training.base_model import base_journal
    from qc_experiments.training.fit import Paused, fit

    started = time.perf_counter()
    config, folder, source = run.config, run.folder, run.plan.source
    silence_transformers()
    transformers.set_seed(config.seed)
    set_determinism(config.trainer.full_determinism)
    keep_memory()
    if kept is not None:
        kept.computes = True
    job = _job(run, stop, share, kept or Kept())
    exit_code = 1
    try:
        if kept is None:
            model = load_base_model(source, to_train(config), config.quant)
        else:
            model = kept.base_model.load(source, config)
        fitted = fit(model, job)
        if isinstance(fitted, Paused):
            result = write_pause(run, fitted, share)
        else:
            weights = of_main_process(_saved_weights(folder))
            work = f"trained for {fitted.steps} steps to {weights}, asked by code {code_mark()}"
            answers = Journal(folder / "answers.jsonl", work)
            name = trained_name(config, fitted.steps).capitalize()
            what = "Trained model" if fitted.steps else name
            with job.precision(), job.trained_answerer(fitted.steps) as answerer:
                trained = job.evaluator.measure(fitted.model, what, answers, answerer)
            result = write_down(run, job.tracker, fitted, trained, time.perf_counter() - started)
            for journal in (answers, base_journal(folder)):
                journal.remove()  # all of it stands in the tables of predictions now
        exit_code = 0
    finally:
        job.tracker.close(exit_code)
    return result


def _saved_weights(folder: RunFolder) -> str:
    """A hash of what was learned: trained again, on a GPU say, it may be another one."""
    digest = hashlib.sha256()
    for name in ("adapter", "model"):
        for path in sorted((folder / name).glob("*.safetensors")):
            with path.open("rb") as file:
                digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()[:16]


def _job(run: Prepared, stop: StopRequests, share: float, kept: Kept) -> TrainingJob:
    """The run's training, from its newest checkpoint if there is one."""
    from qc_experiments.evaluation.evaluator import Evaluator, HeldOut
    from qc_experiments.training.base_model import shared_place
    from qc_experiments.training.checkpoints import CheckpointStore, cut_metrics
    from qc_experiments.training.job import TrainingJob

    config, plan, folder = run.config, run.plan, run.folder
    store = CheckpointStore(folder / "checkpoints", config.trainer.save_total_limit)
    pause_at = math.ceil(share * plan.steps) if share < 1 else None
    if pause_at is not None:
        store.forget_after(pause_at)  # what a run is worth there is known there alone
    resume_from = store.newest()
    if resume_from is not None:
        log.info("Goes on from step %d of %d", resume_from.step, plan.steps)
    cut_metrics(folder / "metrics.jsonl", resume_from.step if resume_from else -1)
    return TrainingJob(
        config=config,
        plan=plan,
        evaluator=Evaluator(
            plan.encoder,
            HeldOut(plan.validation, plan.also),
            run.judge,
            config.evaluation,
            plan.window,
            kept.agreement,
        ),
        tracker=open_tracker(config, folder),
        folder=folder,
        store=store,
        resume_from=resume_from,
        stop=stop,
        pause_at=pause_at,
        base_place=shared_place(config, run.data, plan, run.server.base if run.server else None),
        agreement=kept.agreement,
        pace=kept.pace,
        precision=precision_of(config.model, trained_weights=not config.lora.enabled),
        server=run.server,
    )
