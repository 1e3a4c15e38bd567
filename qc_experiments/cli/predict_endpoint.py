"""`qc predict --endpoint`: what was typed of a model that a server has, checked and handed on."""

from __future__ import annotations

import argparse
import json
import math
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from qc_experiments.cli.asked_model import model_folder
from qc_experiments.errors import UserError
from qc_experiments.system.paths import resolve_path

if TYPE_CHECKING:
    from qc_experiments.generation.endpoint import EndpointPredictor
    from qc_experiments.generation.endpoint_settings import Api, Endpoint, Manners
    from qc_experiments.models.saved import SavedPrompting

OPTIONS = {
    "model": (str, "NAME", "what the server calls the model"),
    "template": (
        str,
        "FILE",
        "the prompt where there is no --adapter (the shipped sql_instruction.txt)",
    ),
    "api": (str, "NAME", "chat or completion (as the run was trained; without one chat)"),
    "max-tokens": (int, "N", "longest answer in tokens (as in the run; without one 128)"),
    "samples": (int, "N", "answers per question, of which running them chooses one (1)"),
    "temperature": (float, "T", "0: the likeliest answer; above: sampled (0)"),
    "body": (str, "JSON", "more that each request holds, such as '{\"seed\": 1}'; null leaves out"),
    "key-env": (str, "VARIABLE", "environment variable that holds the key, such as OPENAI_API_KEY"),
    "concurrency": (int, "N", "questions asked at once (8)"),
    "requests-per-minute": (float, "N", "at most so many requests (no limit)"),
    "timeout": (float, "SECONDS", "for one request (120)"),
    "retries": (int, "N", "of a question whose request failed (6)"),
}
"""What only goes with --endpoint."""
LEAST = {"max-tokens": 1, "samples": 1, "temperature": 0, "concurrency": 1, "retries": 0}
ABOVE_ZERO = ("requests-per-minute", "timeout")
RUNS_HERE = ("decoding", "batch-size", "base-model", "trust-remote-code", "allow-pickle", "cache")
TEMPLATE = "pkg://qc_experiments.data/templates/sql_instruction.txt"
MAX_TOKENS = 128


def add_options(parser: argparse.ArgumentParser) -> None:
    """Give ``qc predict`` and ``qc ask`` the options of a model behind an endpoint."""
    group = parser.add_argument_group("a model behind an endpoint (OpenAI's API)")
    group.add_argument(
        "--endpoint",
        metavar="URL",
        help="ask this server, such as http://localhost:8000/v1; --adapter then gives the prompt alone",
    )
    for name, (kind, metavar, what) in OPTIONS.items():
        group.add_argument(f"--{name}", type=kind, metavar=metavar, help=what)


def endpoint_predictor(options: argparse.Namespace) -> EndpointPredictor | None:
    """What asks the server; None where no --endpoint is given.

    Raises:
        UserError: for options that contradict each other or cannot be used.
    """
    known = vars(options)  # of which each command has its own
    typed = ((name, known.get(name.replace("-", "_"))) for name in (*OPTIONS, *RUNS_HERE))
    given: dict[str, Any] = {
        name: value for name, value in typed if value is not None and value is not False
    }
    if options.endpoint is None:
        if alone := [name for name in given if name in OPTIONS]:
            raise UserError(f"--{alone[0]} goes with --endpoint: the server that has the model")
        return None
    if here := [name for name in given if name in RUNS_HERE]:
        raise UserError(f"--{here[0]} is for a model that runs here, not for one of --endpoint")
    for name, value in given.items():
        if isinstance(value, float) and not math.isfinite(value):
            raise UserError(f"--{name} {value}: must be a finite number")
        if name in LEAST and value < LEAST[name]:
            raise UserError(f"--{name} {value}: must be at least {LEAST[name]}")
        if name in ABOVE_ZERO and value <= 0:
            raise UserError(f"--{name} {value:g}: must be above 0")
    from qc_experiments.generation.choosing import check_confidence

    samples = given.get("samples", 1)
    check_confidence(options.not_below, "--not-below")
    if options.not_below is not None and (samples == 1 or options.db is None):
        raise UserError(
            "--not-below needs answers that agree or not: with --endpoint set --samples 8 and give --db"
        )
    if samples > 1 and not given.get("temperature"):
        raise UserError(f"--samples {samples} needs different answers: set --temperature 0.7, say")
    from qc_experiments.databases.engine import engine as engine_of
    from qc_experiments.generation.endpoint import EndpointPredictor

    prompting = _prompting(options, given)
    if options.engine is not None:
        prompting = replace(prompting, dialect=engine_of(options.engine).dialect)
    return EndpointPredictor(
        _endpoint(options.endpoint, prompting, options.adapter is not None, given),
        _manners(given),
        prompting,
        trained=options.adapter is not None,
        samples=samples,
    )


def _prompting(options: argparse.Namespace, given: dict[str, Any]) -> SavedPrompting:
    """The prompt of a run, or that of a template."""
    from qc_experiments.config.schema import ModelConfig, QuantConfig, Wrap
    from qc_experiments.data.template import read_template
    from qc_experiments.models.saved import SavedPrompting

    if options.adapter is None:
        template = read_template(resolve_path(given.get("template", TEMPLATE), "--template"))
        return SavedPrompting(template, Wrap.chat, MAX_TOKENS, ModelConfig(), QuantConfig())
    if "template" in given:
        raise UserError(
            f"--template {given['template']}: --adapter brings its own template: give one of the two"
        )
    return SavedPrompting.load(model_folder(options))


def _endpoint(
    text: str, prompting: SavedPrompting, trained: bool, given: dict[str, Any]
) -> Endpoint:
    from qc_experiments.generation.endpoint_settings import Endpoint, address

    url = address(text, "--endpoint")
    if not given.get("model", "").strip():
        raise UserError(f"--endpoint {url} needs --model: what the server calls it")
    api = _api(prompting, given)
    settings = {
        "max_tokens": given.get("max-tokens", prompting.max_new_tokens),
        "temperature": given.get("temperature", 0),
    }
    if api.value == "completion" and (after := prompting.template.after_query()):
        settings["stop"] = [after]  # in a chat it may open the code block in which the SQL stands
    return Endpoint(url, given["model"], api, settings | _body(given.get("body", "{}")))


def _api(prompting: SavedPrompting, given: dict[str, Any]) -> Api:
    from qc_experiments.config.schema import Wrap
    from qc_experiments.generation.endpoint_settings import Api

    if "api" not in given:
        return Api.chat if prompting.wrap is Wrap.chat else Api.completion
    names = {one.value: one for one in Api}
    if given["api"] not in names:
        raise UserError(f"--api {given['api']}: must be one of {', '.join(names)}")
    return names[given["api"]]


def _body(text: str) -> dict[str, Any]:
    try:
        found = json.loads(text)
        json.dumps(found, allow_nan=False)  # Python reads NaN, which no other JSON knows
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise UserError(f"--body {text}: must be a JSON object, such as '{{\"seed\": 1}}'")
    if place := {"model", "messages", "prompt", "stream"} & found.keys():
        raise UserError(f"--body: {sorted(place)[0]} is not for you to give: leave it out")
    return found


def _manners(given: dict[str, Any]) -> Manners:
    from qc_experiments.generation.endpoint_settings import Manners, key_of

    names = {
        "concurrency": "concurrency",
        "requests-per-minute": "per_minute",
        "timeout": "timeout",
        "retries": "retries",
    }
    chosen = {names[name]: value for name, value in given.items() if name in names}
    return Manners(key_of(given.get("key-env"), "--key-env"), **chosen)
