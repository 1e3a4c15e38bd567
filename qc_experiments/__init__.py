"""Fine-tune language models to turn questions into SQL, and prove which settings work best.

What the commands do, from Python; each function raises `UserError` for what the user has to mend:

    import qc_experiments as qc
    result = qc.train(["data=csv", "data.train=my.csv", "lora=r32"])
    predictor = qc.load_predictor("outputs/RUN")
    predictor.predict(["How many customers are there?"], database="shop.sqlite")
    qc.evaluate("predictions.csv", "my_databases", "judged")["figures"]
    qc.compare("outputs").groups[0].best
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qc_experiments.errors import UserError

if TYPE_CHECKING:
    from qc_experiments.comparison.study import Study
    from qc_experiments.generation.saved import SavedPredictor

__all__ = ["UserError", "compare", "evaluate", "load_predictor", "train"]
__version__ = "0.1.0"


def train(
    overrides: str | Sequence[str] = (), config_dir: str | Path | None = None
) -> dict[str, Any]:
    """Train and measure one model, as ``qc train``; a run that has finished before is not repeated.

    Args:
        overrides: settings as on the command line, such as ``lora.r=8``; docs/settings.md has all.
        config_dir: a folder with option files of your own.

    Returns:
        The content of ``result.json``.

    Raises:
        UserError: for what the user has to mend; a sweep is started with ``qc train -m``.
    """
    from qc_experiments.cli.train import train as trained
    from qc_experiments.system.words import items

    overrides = items(overrides)
    flags = [one for one in overrides if one.startswith("-")]
    if flags:
        raise UserError(f"{flags[0]}: train() takes settings alone; flags belong to qc train")
    more = () if config_dir is None else ("--config-dir", str(config_dir))
    result = trained([*overrides, *more])
    assert result is not None  # without flags, one run is run
    return result


def evaluate(
    predictions: str | Path, databases: str | Path, output: str | Path, **options: Any
) -> dict[str, Any]:
    """Judge predicted SQL by running it, as ``qc evaluate``.

    Args:
        predictions: CSV with the columns db_id, question, query (the gold) and prediction.
        databases: a database's file (then db_id may be absent), a folder with ``<db_id>/<db_id>.sqlite`` or
            ``<db_id>.sqlite`` (or .duckdb), or ``postgresql://host/{db_id}``.
        output: folder for judged.csv, report.json and pictures.
        options: further fields of `qc_experiments.evaluation.predictions.Asked`, such as ``timeout=10.0``
            (seconds per statement), ``fuzz=2`` (perturbed copies of each database), ``against="judged"``.

    Returns:
        The content of ``report.json``.

    Raises:
        UserError: for what the user has to mend.
    """
    from dataclasses import fields

    from qc_experiments.evaluation.predictions import Asked
    from qc_experiments.evaluation.predictions import evaluate as judged
    from qc_experiments.system.words import items, nearest

    known = [one.name for one in fields(Asked)]
    for name in options:
        if name not in known:
            raise UserError(f"evaluate: no option {name}{nearest(name, known)}")
    given: dict[str, Any] = {
        name: str(one) if isinstance(one, Path) else one for name, one in options.items()
    }
    given["metrics"] = items(given.get("metrics", ()))
    return judged(Asked(str(predictions), str(databases), str(output), **given)).report


def load_predictor(
    run_folder: str | Path,
    *,
    batch_size: int | None = None,
    cache: str | Path | None = None,
    guided: bool = True,
    outputs: str | Path = "outputs",
    **options: Any,
) -> SavedPredictor:
    """The model that a run has saved, to be asked, as by ``qc predict``.

    Args:
        run_folder: of a run, or its ``adapter/`` or ``model/``; ``latest``: of the run that finished last.
        batch_size: questions that are computed at once (16).
        cache: folder of what is made once per user; None: as in training.
        guided: whether answers are held to the schema and tried on the database, the first of four beams
            that runs; else the likeliest is taken as it is.
        outputs: where ``latest`` is looked for.
        options: ``base_model`` (where it is now, if not where it was in training), ``trust_remote_code``
            (whether code that comes with it may run), ``allow_pickle`` (whether weights may be pickles).

    Raises:
        UserError: if no run has saved a model there, or its base model cannot be loaded.
    """
    from qc_experiments.system.words import nearest

    known = ("base_model", "trust_remote_code", "allow_pickle")
    for name in options:
        if name not in known:
            raise UserError(f"load_predictor: no option {name}{nearest(name, known)}")
    if isinstance(place := options.get("base_model"), Path):
        options["base_model"] = str(place)
    from qc_experiments.config.schema import PathsConfig
    from qc_experiments.generation.saved import SavedPredictor
    from qc_experiments.models.named import named_model
    from qc_experiments.system.paths import user_path

    return SavedPredictor(
        named_model(str(run_folder), "run_folder", str(outputs)),
        user_path(str(cache or PathsConfig().cache), "cache"),
        batch_size,
        guided=guided,
        **options,
    )


def compare(*folders: str | Path, objective: str | None = None) -> Study:
    """Read, group and rank runs and test what is better, as ``qc compare``; writes nothing.

    Args:
        folders: runs, or folders that hold runs up to three levels down.
        objective: the metric that ranks them; None takes execution accuracy where it was measured,
            else the loss.

    Raises:
        UserError: if there is no run that can be read, or no such metric.
    """
    from qc_experiments.cli.compare import studied

    if not folders:
        raise UserError("compare: name at least one folder of runs, such as outputs")
    return studied([str(folder) for folder in folders], objective)
