"""What is written down of a run that has come to its end, or that pauses on its way."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from qc_experiments.config.metrics import ALSO_LOSS, METRICS, Metric
from qc_experiments.config.schema import RunConfig
from qc_experiments.evaluation.confidence import pairs, risks
from qc_experiments.evaluation.metrics import report
from qc_experiments.evaluation.plot import accuracy_plot, confidence_plot
from qc_experiments.evaluation.wrong_answers import with_rows, wrong_answers
from qc_experiments.records.folder import RunFolder
from qc_experiments.runs.provenance import code_commit
from qc_experiments.runs.summary import Cell, prediction_table, summary
from qc_experiments.system.memory import peak_memory_bytes, peak_reserved_bytes
from qc_experiments.system.processes import is_main_process
from qc_experiments.system.reading import read_json
from qc_experiments.training.inputs import RunData

if TYPE_CHECKING:
    from qc_experiments.evaluation.evaluator import Measured
    from qc_experiments.generation.served import ModelServer
    from qc_experiments.judging.judge import Judge
    from qc_experiments.tracking.tracker import Tracker
    from qc_experiments.training.fit import Fitted, Paused
    from qc_experiments.training.plan import Plan

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Prepared:
    """A run, known and checked before it computes anything."""

    config: RunConfig
    data: RunData
    """Without the held-out rows that do not fit the model's window."""
    folder: RunFolder
    plan: Plan
    judge: Judge
    """Has run the golds."""
    warnings: tuple[str, ...]
    """Lines about golds that fail."""
    server: ModelServer | None
    """Writes the answers at the end; None: they are written here."""


def trained_name(config: RunConfig, steps: int) -> str:
    """What the model is called that is measured at the end."""
    if not steps:
        return "not trained" if config.model.adapter is None else "adapter as loaded"
    return "adapter" if config.lora.enabled else "fine-tuned"


def write_down(
    run: Prepared, tracker: Tracker, fitted: Fitted, trained: Measured, seconds: float
) -> dict[str, Any]:
    """Predictions, summary table and, last of all, ``result.json``, which says that all is there.

    Args:
        run: the run.
        tracker: is told the predictions and the result.
        fitted: what the training took.
        trained: how good the trained model is.
        seconds: of this start of the run.
    """
    config, folder, plan, data = run.config, run.folder, run.plan, run.data
    name = trained_name(config, fitted.steps)
    columns, rows = _predictions(run, trained)
    folder.write_csv("predictions.csv", columns, rows)
    own = config.own_metrics()
    found = {name: report(trained.judged, data.judged_on, own)}
    folder.write_json("report.json", found[name])
    tracker.table("predictions", columns, rows)
    figures: dict[str, Any] = {"status": "finished", **trained.figures()}
    base_seconds = 0.0
    if fitted.base is not None:
        folder.write_csv("base_predictions.csv", *_predictions(run, fitted.base))
        found = {"base model": report(fitted.base.judged, data.judged_on, own), **found}
        base_seconds = fitted.base.seconds
        figures |= _base_figures(fitted.base, own)
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
        "seconds_total": seconds + fitted.seconds_before,
        "seconds_training": fitted.seconds,
        "seconds_evaluation": trained.seconds + base_seconds,
        "examples_per_second": fitted.examples_per_second,
        "tokens_per_second": fitted.tokens_per_second,
        "pack_attention": fitted.pack_attention,
        "packed_difference": fitted.packed_difference,
        "peak_memory_bytes": peak_memory_bytes(),
        "peak_reserved_bytes": peak_reserved_bytes(),
    }
    _draw(folder, found, {"base model": fitted.base, name: trained})
    if fitted.steps:
        _write_card(run, figures)
    text = _summary(run, trained, fitted.base, name)
    folder.write("summary.txt", text)
    result = folder.result(figures)
    tracker.summary(result)
    log.info("\n%s", text)
    return result


def _predictions(run: Prepared, of: Measured) -> tuple[list[str], list[list[Cell]]]:
    judged = of.judged
    if is_main_process():  # which runs the SQL
        judged = with_rows(judged, run.judge, run.config.evaluation.rows)
    return prediction_table(judged)


def _base_figures(base: Measured, own: Sequence[Metric]) -> dict[str, float | int | None]:
    found = base.figures()
    compared = [metric.key for metric in (*METRICS, *own) if metric.during_training]
    return {f"base_{key}": found[key] for key in (*compared, ALSO_LOSS.key)}


def _write_card(run: Prepared, figures: Mapping[str, Any]) -> None:
    """The model card beside what was trained, in the place of PEFT's empty one."""
    from qc_experiments.export.card import CardFacts, model_card
    from qc_experiments.export.exact_prompt import ExactPrompt

    folder, prompt = run.folder, ExactPrompt(run.plan.encoder)
    environment = read_json(folder / "environment.json") or {}
    facts = CardFacts(folder.path.name, run.config, figures, environment, prompt)
    kind = "adapter" if run.config.lora.enabled else "model"
    folder.write(f"{kind}/README.md", model_card(facts, kind))


def _draw(
    folder: RunFolder, reports: Mapping[str, Any], measured: Mapping[str, Measured | None]
) -> None:
    """Draw accuracies, and risk against coverage of each model whose confidences are known."""
    folder.write("accuracy.png", accuracy_plot(reports))
    sure = {name: pairs(one.judged) for name, one in measured.items() if one is not None}
    if curves := {name: risks(one) for name, one in sure.items() if one}:
        folder.write("confidence.png", confidence_plot(curves))


def _summary(run: Prepared, trained: Measured, base: Measured | None, name: str) -> str:
    wrong = ""
    if is_main_process():  # which runs the SQL
        wrong = wrong_answers(trained.judged, run.judge, run.config.evaluation.show)
    continued, files = run.config.model.adapter is not None, str(run.folder.path)
    return summary(trained, base, name, files, continued=continued, wrong=wrong)


def write_pause(run: Prepared, paused: Paused, share: float) -> dict[str, Any]:
    """Write down what a run that will go on is worth so far."""
    config, folder = run.config, run.folder
    figures: dict[str, Any] = {
        metric.key: paused.figures[metric.logged_as]
        for metric in (*METRICS, *config.own_metrics())
        if metric.logged_as in paused.figures
    }
    figures["objective"] = figures[config.objective]
    told = (paused.steps, config.objective, figures["objective"])
    log.info("Paused after step %d; %s %.4f so far", *told)
    known = {
        "status": "paused",
        "steps": paused.steps,
        "seed": config.seed,
        "config_hash": folder.identity.config_hash,
        "code_commit": code_commit(),
    }
    return folder.pause(share, {**known, **figures})
