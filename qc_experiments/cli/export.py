"""`qc export`: take a trained model along, merged, as GGUF or as an adapter, and judge it again.

For example:

    qc export latest --to my_model
    qc export outputs/RUN --to my_file --format gguf --type q4_0
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from pathlib import Path

from qc_experiments.cli.parser import Parser
from qc_experiments.errors import UserError
from qc_experiments.system.console import set_up_logging, told_to_users
from qc_experiments.system.processes import quiet_libraries
from qc_experiments.system.signals import StopRequests

FORMATS = ("merged", "gguf", "adapter")


def main(arguments: Sequence[str]) -> None:
    """Export; exits with 1 where the export is worse beyond chance, with 2 where the user has to mend."""
    quiet_libraries()
    with told_to_users(), StopRequests().listening():
        worse = _export(_parser().parse_args(arguments))
    if worse:
        raise SystemExit(1)


def _parser() -> argparse.ArgumentParser:
    parser = Parser(prog="qc export", description="Take a trained model along, and judge it again.")
    add = parser.add_argument
    add("run", metavar="RUN", help="folder of a finished run, its name below --outputs, or latest")
    add("--outputs", metavar="DIR", help="where runs are looked for (outputs)")
    add("--to", required=True, metavar="DIR", help="folder to make")
    add(
        "--format",
        choices=FORMATS,
        default="merged",
        help="merged: a whole model for transformers and vLLM; gguf: one file for llama.cpp and Ollama; "
        "adapter: what PEFT loads (merged)",
    )
    add(
        "--type",
        metavar="TYPE",
        help="of the weights: bfloat16, float32 or float16 for merged (bfloat16); q8_0, f16, bf16, f32, "
        "q5_1, q5_0, q4_1 or q4_0 for gguf (q8_0)",
    )
    add(
        "--check",
        type=int,
        default=100,
        metavar="N",
        help="held-out questions that it answers again, beside the run's own; 0 for none (100)",
    )
    add("--push", metavar="ID", help="upload the folder to the hub as this repository")
    add("--cache", metavar="DIR", help="cache folder, as paths.cache in training")
    add("--base-model", metavar="PATH_OR_ID", help="where the base model is now, if it was moved")
    add("--trust-remote-code", action="store_true", help="let code run that comes with the model")
    add("--allow-pickle", action="store_true", help="read weights from pickles (.bin)")
    return parser


def _export(options: argparse.Namespace) -> bool:
    from qc_experiments.config.schema import PathsConfig
    from qc_experiments.models.named import named_model
    from qc_experiments.system.paths import output_problem, user_path

    target = user_path(options.to, "--to")
    if os.path.lexists(target):
        raise UserError(f"--to {target}: is there already; choose another name, or remove it")
    if problem := output_problem(target):
        raise UserError(f"--to {target}: {problem}")
    if options.check < 0:
        raise UserError(f"--check {options.check}: must be at least 0")
    folder = named_model(options.run, "RUN", options.outputs or PathsConfig().output)
    cache = user_path(options.cache or PathsConfig().cache, "--cache")
    from qc_experiments.export.run_files import read_run

    run = read_run(folder)
    from qc_experiments.export import hub
    from qc_experiments.export.export import KINDS, Request, export

    kinds = KINDS[options.format]
    kind = options.type or kinds[0]
    if kind not in kinds:
        known = ", ".join(dict.fromkeys(kinds)) or "none: it is copied as it is"
        raise UserError(
            f"--type {kind}: for --format {options.format} the types are {known.strip() or 'none'}"
        )
    if options.push is not None:
        hub.check_push(options.push)
    set_up_logging()
    allowed = {
        "trust_remote_code": options.trust_remote_code,
        "allow_pickle": options.allow_pickle,
    }
    request = Request(
        target, options.format, kind, options.check, cache, options.base_model, allowed
    )
    check = export(run, request)
    for line in check.lines() if check else []:
        print(line)
    print(
        f"{target}: {options.format}{f' in {kind}' if kind else ''}; README.md says how it is asked"
    )
    worse = check is not None and check.worse
    if options.push is not None:
        print(_pushed(target, options.push, worse=worse))
    return worse


def _pushed(target: Path, repository: str, *, worse: bool) -> str:
    from qc_experiments.export import hub

    if worse:
        return (
            f"--push {repository}: not done, as the export is worse; {hub.kept(target, repository)}"
        )
    return hub.push(target, repository)
