"""The ``qc`` command; each subcommand imports only what it needs."""

from __future__ import annotations

import io
import sys

COMMANDS = {
    "train": "fine-tune a model on text-to-SQL and measure it (Hydra overrides; qc train --help)",
    "plan": "say what `qc train` with the same overrides would do: rows, tokens, steps, folder",
    "evaluate": "judge predicted SQL, of any system, by running it on the databases",
    "predict": "let a saved adapter answer one question or a CSV of questions",
    "compare": "rank the runs of a sweep, test what is better, and write a page to look at",
    "wandb": "show the same comparison on Weights & Biases, as a workspace and a report",
    "data": "check a CSV, show a row as the model sees it, or print a database's schema",
}


def usage() -> str:
    """The overview that ``qc`` alone prints."""
    lines = [f"  {name:<9}{what}" for name, what in COMMANDS.items()]
    return "\n".join(
        ["usage: qc COMMAND ...", "", "commands:", *lines, "", "qc COMMAND --help says more"]
    )


def main() -> None:
    """Hand on to the subcommand; exits with 2 where the user has to mend something."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # data may hold what the terminal cannot show
    name, rest = (sys.argv[1:2] or [""])[0], sys.argv[2:]
    if name in ("", "-h", "--help"):
        print(usage())
        return
    if name == "train":
        from qc_experiments.cli import train as command_line

        command_line.main(rest, "qc train")
    elif name == "plan":
        from qc_experiments.cli import train as command_line

        command_line.plan(rest)
    elif name == "evaluate":
        from qc_experiments.cli import evaluate as command

        command.main(rest)
    elif name == "predict":
        from qc_experiments.cli import predict

        predict.main(rest)
    elif name == "compare":
        from qc_experiments.cli import compare as compare_command

        compare_command.main(rest)
    elif name == "wandb":
        from qc_experiments.cli import wandb as wandb_command

        wandb_command.main(rest)
    elif name == "data":
        from qc_experiments.cli import data as data_command

        data_command.main(rest)
    elif name == "--version":
        from qc_experiments import __version__

        print(f"qc_experiments {__version__}")
    else:
        from qc_experiments.config.compose import nearest
        from qc_experiments.errors import UserError
        from qc_experiments.system.console import told_to_users

        with told_to_users():
            raise UserError(f"no command {name}{nearest(name, COMMANDS)}; qc alone lists them")


if __name__ == "__main__":
    main()
