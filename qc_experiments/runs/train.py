"""The story of one run, from a CSV and a template to an evaluated adapter; read `run` first."""

from __future__ import annotations

import logging
import math
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qc_experiments.config.metrics import EXECUTION, LOSS, METRICS
from qc_experiments.config.schema import Rerun, RunConfig, TrackerName, plain
from qc_experiments.errors import UserError
from qc_experiments.models.base import ModelSource, model_source
from qc_experiments.records.folder import RunFolder
from qc_experiments.runs.identity import identify
from qc_experiments.runs.provenance import environment
from qc_experiments.system.console import SafeFormatter
from qc_experiments.system.locking import locked
from qc_experiments.system.processes import is_main_process
from qc_experiments.system.secrets import redacted, redacted_tree
from qc_experiments.system.signals import StopRequests
from qc_experiments.tracking.wandb import check_wandb, switched_off
from qc_experiments.training.inputs import RunData, load_data
from qc_experiments.training.out_of_memory import explain_shortage

if TYPE_CHECKING:
    from qc_experiments.evaluation.evaluator import Measured
    from qc_experiments.judging.judge import Judge
    from qc_experiments.tracking.tracker import Tracker
    from qc_experiments.training.fit import Fitted, Rested
    from qc_experiments.training.plan import Plan

log = logging.getLogger(__name__)
file_only = logging.getLogger("qc_experiments_file")
"""Reaches the run's ``train.log`` but not the terminal, which Python tells of tracebacks itself."""
file_only.propagate = False


def run(
    config: RunConfig,
    share: float = 1.0,
    load: Callable[[ModelSource, RunConfig], Any] | None = None,
) -> dict[str, Any]:
    """Train and measure one model, or say what an earlier start of this run found.

    Nothing heavy is imported before the data has been checked, and nothing is written before
    everything that the user can mend has been checked.

    Args:
        config: the whole, checked config.
        share: of its optimizer steps that the run takes before it rests; its next start goes on.
        load: gives the base model, for a caller that keeps it; None loads it.

    Returns:
        The content of ``result.json``.

    Raises:
        UserError: for anything the user can mend.
    """
    data = load_data(config)
    folder = run_folder(config, data)
    rested = folder.rested(share) if share < 1 else None
    if rested is not None and rested[config.objective] is None:
        rested = None  # another objective ranked the runs then
    known = rested or folder.finished()
    if known is not None and not _to_be_rerun(config, folder, known):
        if known["status"] == "finished":
            _repeat(known, folder, alone=load is None)
        else:
            log.info("Has come to this rung before")
        return known
    folder.check_owner(config)
    check_wandb(config.tracking)
    plan = plan_of(config, data)
    judge, warnings = _tried_golds(config, data, plan)
    stop = StopRequests()
    with locked(folder.path) as held, stop.listening():
        finished = folder.finished()
        if finished is not None:  # by another process, in the meantime
            return finished
        with folder.owned(held):
            about = {"label": plan.source.label, "weights": plan.storage(config)}
            folder.claim(config, environment(folder.identity, data, about))
            with _logged(folder):
                _announce(plan, config, data, folder, warnings)
                try:
                    return _execute(config, data, plan, folder, judge, stop, share, load)
                except BaseException as error:
                    told = explain_shortage(error, config, folder.path) or error
                    _record_failure(folder, error, told)
                    if told is error:
                        raise
                    raise told from error


def _repeat(known: Mapping[str, Any], folder: RunFolder, alone: bool) -> None:
    """Say what an earlier start found: all of it, or for one of many jobs one line."""
    if alone:
        log.info("This run has finished before (delete its folder to run it anew); its result:\n")
        log.info("%s", folder.summary())
        return
    shown = [
        f"{metric.title} {known[metric.key]:.4f}"
        for metric in (LOSS, EXECUTION)
        if known.get(metric.key) is not None
    ]
    log.info("Finished before: %s; %s", ", ".join(shown), folder.path)


def run_folder(config: RunConfig, data: RunData) -> RunFolder:
    """The folder of a run: where it is or will be; nothing is made."""
    source = model_source(config.model, Path(config.paths.cache).expanduser(), unpack=False)
    identity = identify(config, data, source.label, source.fingerprint)
    path = Path(config.paths.output).expanduser() / identity.name
    return RunFolder(path, identity, config.own_metrics())


def announce(config: RunConfig) -> None:
    """Say what `run` would do, without doing it.

    Raises:
        UserError: for everything that `run` would refuse before it computes.
    """
    data = load_data(config)
    folder = run_folder(config, data)
    folder.check_owner(config)
    check_wandb(config.tracking)
    plan = plan_of(config, data)
    _announce(plan, config, data, folder, _tried_golds(config, data, plan)[1])
    if folder.finished() is not None:
        log.info("This run has finished; its result is in %s", folder.path)


def plan_of(config: RunConfig, data: RunData) -> Plan:
    """What a run will compute.

    Raises:
        UserError: for what cannot be computed.
    """
    from qc_experiments.training.plan import make_plan

    cache = Path(config.paths.cache).expanduser()
    return make_plan(config, data, model_source(config.model, cache))


def _tried_golds(config: RunConfig, data: RunData, plan: Plan) -> tuple[Judge, tuple[str, ...]]:
    """The run's judge, which has run the golds, and lines about those that fail."""
    from qc_experiments.databases.engine import Limits
    from qc_experiments.evaluation.golds import check_golds
    from qc_experiments.judging.judge import Judge

    judge = Judge(
        data.databases,
        Limits(seconds=config.evaluation.timeout),
        cache=Path(config.paths.cache).expanduser(),
        perturbed=config.evaluation.fuzz,
        seed=config.evaluation.seed,
    )
    rows = [example.row for example in plan.validation]
    return judge, check_golds(config, rows, data.validation_source, judge)


def _announce(
    plan: Plan, config: RunConfig, data: RunData, folder: RunFolder, warnings: Sequence[str]
) -> None:
    advice = plan.sharing_advice(config)
    for line in (*data.decisions, *plan.decisions, *warnings, *([advice] if advice else [])):
        log.warning("%s", line)
    for line in (f"Run     {folder.path}", *plan.lines(config)):
        log.info("%s", line)


def _execute(
    config: RunConfig,
    data: RunData,
    plan: Plan,
    folder: RunFolder,
    judge: Judge,
    stop: StopRequests,
    share: float,
    load: Callable[[ModelSource, RunConfig], Any] | None,
) -> dict[str, Any]:
    """Load the base model, train it, measure it before and after, write everything down."""
    import transformers

    from qc_experiments.evaluation.evaluator import Evaluator
    from qc_experiments.evaluation.journal import Journal
    from qc_experiments.models.base import load_base_model
    from qc_experiments.system.memory import keep_memory
    from qc_experiments.training.base_model import base_journal, shared_place
    from qc_experiments.training.checkpoints import CheckpointStore, cut_metrics
    from qc_experiments.training.fit import Rested, fit

    started = time.perf_counter()
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    transformers.set_seed(config.seed)
    keep_memory()
    store = CheckpointStore(folder / "checkpoints", config.trainer.save_total_limit)
    pause_at = math.ceil(share * plan.steps) if share < 1 else None
    if pause_at is not None:
        store.forget_after(pause_at)  # what a run is worth there is known there alone
    resume_from = store.newest()
    if resume_from is not None:
        log.info("Goes on from step %d of %d", resume_from.step, plan.steps)
    cut_metrics(folder / "metrics.jsonl", resume_from.step if resume_from else -1)
    examination = Evaluator(plan.encoder, plan.validation, judge, config.evaluation, plan.window)
    tracker = _trackers(config, folder)
    exit_code = 1
    try:
        if load is None:
            model = load_base_model(plan.source, config.model, config.quant)
        else:
            model = load(plan.source, config)
        try:
            fitted = fit(
                model,
                config,
                plan,
                examination,
                tracker,
                folder,
                store,
                resume_from,
                stop,
                pause_at,
                shared_place(config, data, plan),
            )
        except Rested as rested:
            exit_code = 0
            return _rest(config, folder, rested, share)
        answers = Journal(folder / "answers.jsonl", f"trained for {fitted.steps} steps")
        name = _trained_name(config, fitted.steps).capitalize()
        trained = examination.measure(
            fitted.model, "Trained model" if fitted.steps else name, answers
        )
        result = _write_down(config, data, plan, folder, tracker, fitted, trained, started)
        for journal in (answers, base_journal(folder)):
            journal.remove()  # all of it stands in the tables of predictions now
        exit_code = 0
    finally:
        judge.close()
        tracker.close(exit_code)
    return result


def _write_down(
    config: RunConfig,
    data: RunData,
    plan: Plan,
    folder: RunFolder,
    tracker: Tracker,
    fitted: Fitted,
    trained: Measured,
    started: float,
) -> dict[str, Any]:
    """Predictions, summary table and, last of all, ``result.json``, which says that all is there."""
    from qc_experiments.evaluation.metrics import report
    from qc_experiments.evaluation.plot import accuracy_plot
    from qc_experiments.runs.provenance import code_commit
    from qc_experiments.runs.summary import prediction_table, summary
    from qc_experiments.system.memory import peak_memory_bytes

    name = _trained_name(config, fitted.steps)
    columns, rows = prediction_table(trained.judged)
    folder.write_csv("predictions.csv", columns, rows)
    own = config.own_metrics()
    found = {name: report(trained.judged, data.judged_on, own)}
    folder.write_json("report.json", found[name])
    tracker.table("predictions", columns, rows)
    figures: dict[str, Any] = {"status": "finished", **trained.figures()}
    base_seconds = 0.0
    if fitted.base is not None:
        folder.write_csv("base_predictions.csv", *prediction_table(fitted.base.judged))
        found = {"base model": report(fitted.base.judged, data.judged_on, own), **found}
        base_seconds = fitted.base.seconds
        base = fitted.base.figures()
        for metric in (*METRICS, *own):
            if metric.during_training:
                figures[f"base_{metric.key}"] = base[metric.key]
    figures |= {
        "objective": figures[config.objective],
        "parameters_trainable": fitted.parameters_trainable,
        "parameters_total": fitted.parameters_total,
        "label_tokens": plan.label_tokens,
        "examples": len(plan.train),
        "steps": fitted.steps,
        "seed": config.seed,
        "config_hash": folder.identity.config_hash,
        "data_hash": data.train_hash,
        "template_hash": data.template.content_hash(),
        "evaluation_hash": data.evaluation_hash,
        "code_commit": code_commit(),
        "seconds_total": time.perf_counter() - started + fitted.seconds_before,
        "seconds_training": fitted.seconds,
        "seconds_evaluation": trained.seconds + base_seconds,
        "examples_per_second": fitted.examples_per_second,
        "tokens_per_second": fitted.tokens_per_second,
        "peak_memory_bytes": peak_memory_bytes(),
    }
    folder.write("accuracy.png", accuracy_plot(found))
    text = summary(trained, fitted.base, name, str(folder.path))
    folder.write("summary.txt", text)
    result = folder.result(figures)
    tracker.summary(result)
    log.info("\n%s", text)
    return result


def _trained_name(config: RunConfig, steps: int) -> str:
    """What the model is called that was measured at the end."""
    if not steps:
        return "not trained" if config.model.adapter is None else "adapter as loaded"
    return "adapter" if config.lora.enabled else "fine-tuned"


def _rest(config: RunConfig, folder: RunFolder, rested: Rested, share: float) -> dict[str, Any]:
    """Write down what a run that will go on is worth so far."""
    from qc_experiments.runs.provenance import code_commit

    figures: dict[str, Any] = {
        metric.key: rested.figures[metric.logged_as]
        for metric in (*METRICS, *config.own_metrics())
        if metric.logged_as in rested.figures
    }
    figures["objective"] = figures[config.objective]
    log.info(
        "Rests behind step %d; %s %.4f so far",
        rested.steps,
        config.objective,
        figures["objective"],
    )
    hashed = folder.identity.config_hash
    known = {"status": "paused", "steps": rested.steps, "seed": config.seed, "config_hash": hashed}
    return folder.rest(share, {**known, "code_commit": code_commit(), **figures})


def _to_be_rerun(config: RunConfig, folder: RunFolder, known: dict[str, Any]) -> bool:
    """Whether a run is to be made anew, since other code has made it; says so if it has."""
    from qc_experiments.runs.provenance import code_commit

    made_by, now = known.get("code_commit"), code_commit()
    if made_by == now:
        return False
    kept = config.sweep.rerun is not Rerun.changed
    log.warning(
        "%s was made by other code (%s, now %s)%s",
        folder.path,
        _short(made_by),
        _short(now),
        "; sweep.rerun=changed runs such runs anew" if kept else "",
    )
    if kept:
        return False
    with locked(folder.path):
        folder.empty()
    return True


def _short(commit: str | None) -> str:
    """A commit as people write it, with the mark of uncommitted changes."""
    head, plus, changes = (commit or "unknown").partition("+")
    return head[:12] + plus + changes


def _trackers(config: RunConfig, folder: RunFolder) -> Tracker:
    from qc_experiments.tracking.tracker import (
        Guarded,
        JsonlTracker,
        NullTracker,
        Trackers,
        logged_figures,
    )

    remote: Tracker = NullTracker()
    if not is_main_process():
        return remote
    tracked = config.tracking.name is TrackerName.wandb
    if tracked and switched_off():
        log.info("WANDB_DISABLED is set: Weights & Biases is told nothing")
    elif tracked:
        from qc_experiments.tracking.wandb import WandbTracker

        identity = folder.identity
        settings = redacted_tree(plain(config))
        try:
            run = WandbTracker(
                config.tracking,
                folder.path,
                identity.run_id,
                identity.name,
                settings,
                logged_figures(folder / "metrics.jsonl"),
            )
            remote = Guarded(run, "Weights & Biases")
        except Exception as error:  # the network, the login, the service: none may end a run
            reason = " ".join(f"{type(error).__name__}: {error}".split())
            log.warning(
                "Weights & Biases could not be started (%s); all figures are in the run's folder",
                reason,
            )
    return Trackers(JsonlTracker(folder / "metrics.jsonl"), remote)


def _record_failure(folder: RunFolder, error: BaseException, told: BaseException) -> None:
    """Say in ``result.json`` that the run failed, and in ``train.log`` where.

    What comes behind the result (closing W&B, say) cannot take it back.
    """
    if folder.finished() is not None or not folder.held():
        return
    if not isinstance(error, UserError):
        file_only.error("%s", "".join(traceback.format_exception(error)))
    reason = redacted(f"{type(told).__name__}: {told}".splitlines()[0].rstrip(": "))
    status = "interrupted" if isinstance(error, KeyboardInterrupt) else "failed"
    config_hash = folder.identity.config_hash
    try:
        folder.result({"status": status, "config_hash": config_hash, "error": reason})
    except OSError:  # a full disk, say; the error that is on its way tells what happened
        log.error("%s could not be written", folder / "result.json")


@contextmanager
def _logged(folder: RunFolder) -> Iterator[None]:
    """Write everything that is logged to the run's ``train.log`` as well."""
    if not is_main_process():
        yield
        return
    handler = logging.FileHandler(folder / "train.log", encoding="utf-8")
    handler.setFormatter(SafeFormatter("%(asctime)s %(levelname)s %(message)s"))
    loggers = (logging.getLogger("qc_experiments"), file_only)
    for logger in loggers:
        logger.addHandler(handler)
    try:
        yield
    finally:
        for logger in loggers:
            logger.removeHandler(handler)
        handler.close()
