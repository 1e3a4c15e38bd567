"""A server that writes the answers of a run's own model: its adapter is loaded into a running vLLM.

Prompts go as the tokens of the training, so that nothing depends on the server's tokenizer, its chat template
or a blank at the end.
"""

from __future__ import annotations

import logging
import secrets
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path, PurePath
from typing import Any

import httpx2

from qc_experiments.config.schema import EvaluationConfig, Wrap
from qc_experiments.data.encode import Encoder
from qc_experiments.data.table import Row, name_rows
from qc_experiments.errors import UserError
from qc_experiments.generation.choosing import Answerer, Predicted, choose_by_running
from qc_experiments.generation.endpoint_asking import Answers, Asking
from qc_experiments.generation.endpoint_client import CONNECTS, SHOWN, UNUSABLE, masked
from qc_experiments.generation.endpoint_settings import (
    Api,
    Endpoint,
    Manners,
    Names,
    address,
    key_of,
)
from qc_experiments.judging.judge import Judge
from qc_experiments.sql.extraction import extract_sql
from qc_experiments.system.words import counted, nearest

log = logging.getLogger(__name__)

OPTION = "evaluation.endpoint"
NAMES = Names(
    OPTION,
    "evaluation.endpoint_model",
    "evaluation.endpoint_key_env",
    "a server that completes text",
    "",
)
CONCURRENCY = 64
"""Questions asked at once, which a server for GPUs computes together."""
LOADS, UNLOADS = "load_lora_adapter", "unload_lora_adapter"
"""vLLM's ways to take an adapter while it runs, where VLLM_ALLOW_RUNTIME_LORA_UPDATING=True."""
SECONDS = 600.0
"""That a question may take, which waits for those before it, or the loading of an adapter."""
NOT_THERE = (404, 405)


@dataclass(frozen=True)
class ServedModel:
    """A base model as a server has it: what it is called there, and where it came from."""

    name: str
    root: str

    def may_be(self, names: Iterable[str]) -> bool:
        """Whether it is called as one of some names, folders left out."""
        last = {PurePath(one).name.lower() for one in names}
        return not last.isdisjoint({PurePath(one).name.lower() for one in (self.name, self.root)})


class ModelServer:
    """The server of ``evaluation.endpoint``.

    Attributes:
        base: the base model that it serves, known after `check`; None where one model is asked by name.

    Args:
        config: which server, and how it answers.
        encoder: makes the prompts, as in training.
        window: longest input of the model in tokens, or None.
        judge: runs candidates, to choose among them.

    Raises:
        UserError: if address or key cannot be used.
    """

    def __init__(
        self, config: EvaluationConfig, encoder: Encoder, window: int | None, judge: Judge
    ) -> None:
        self._config, self._encoder, self._window, self._judge = config, encoder, window, judge
        self._url = address(config.endpoint or "", OPTION)
        key = key_of(config.endpoint_key_env, NAMES.key)
        self._manners = Manners(key, concurrency=CONCURRENCY, timeout=SECONDS)
        self._named = f"{OPTION} {self._url}"
        self.base: ServedModel | None = None

    def check(self, *, loads: bool, longest: int) -> None:
        """See that the server is there, and takes what it will have to.

        Args:
            loads: whether an adapter will be loaded.
            longest: tokens of a question with its answer.

        Raises:
            UserError: if not.
        """
        models = self._models()
        served = [one["id"] for one in models]
        wanted = self._config.endpoint_model
        if wanted is not None and wanted not in served:
            names = f"{', '.join(served)}{nearest(wanted, served)}"
            raise UserError(f"evaluation.endpoint_model={wanted}: {self._url} serves {names}")
        if wanted is None:
            self.base = self._base(models)
        rooms = [
            one["max_model_len"] for one in models if isinstance(one.get("max_model_len"), int)
        ]
        if rooms and max(rooms) < longest:
            raise UserError(
                f"{self._named}: takes {max(rooms)} tokens, and the longest question with its answer has "
                f"{longest}: start it with --max-model-len {longest} at least"
            )
        if loads and self._send("POST", LOADS, {}).status_code in NOT_THERE:
            raise UserError(
                f"{self._named}: takes no adapter while it runs: start it as "
                "VLLM_ALLOW_RUNTIME_LORA_UPDATING=True vllm serve BASE_MODEL --enable-lora --max-lora-rank "
                "RANK"
            )

    def _base(self, models: Sequence[Mapping[str, Any]]) -> ServedModel:
        found = [one for one in models if not one.get("parent")]
        if len({str(one.get("root") or one["id"]) for one in found}) != 1:
            raise UserError(
                f"{self._named}: serves {counted(len(found), 'base model')}, and which of them is asked is "
                "not known: let it serve one"
            )
        return ServedModel(found[0]["id"], str(found[0].get("root") or found[0]["id"]))

    @contextmanager
    def holding(self, adapter: Path, name: str) -> Iterator[str]:
        """The name by which the server is asked for an adapter, which it holds meanwhile.

        It is another one each time: servers keep what they have computed for a name.

        Raises:
            UserError: if it does not take it.
        """
        name = f"{name}-{secrets.token_hex(4)}"
        place = {"lora_name": name, "lora_path": str(adapter.absolute())}
        response = self._send("POST", LOADS, place)
        if not response.is_success:
            said = " ".join(masked(response.text, self._manners.key).split())[:SHOWN]
            raise UserError(
                f"{self._named}: does not take {adapter} ({said}): start it so that it does, and run the "
                f"same command again; or measure it here: trainer.max_steps=0 model.adapter={adapter}"
            )
        try:
            yield name
        finally:
            try:
                self._send("POST", UNLOADS, {"lora_name": name}, CONNECTS)
            except UserError as error:  # what was found stays found
                log.warning("%s keeps the adapter %s (%s)", self._named, name, error)

    def answerer(self, model: str) -> Answerer:
        """What asks one of the server's models."""
        return partial(self._answer, model)

    def _answer(
        self, model: str, rows: Sequence[Row], advance: Callable[[int], None]
    ) -> list[Predicted]:
        config, encoder = self._config, self._encoder
        prompts = [tuple(ids) for ids in encoder.prompts(rows)]
        longest = None if self._window is None else self._window - config.max_new_tokens
        asked = [ids for ids in prompts if longest is None or len(ids) <= longest]
        advance(len(prompts) - len(asked))
        answers = Answers(None, "", "")
        work = Asking(config.candidates, asked, answers, advance)
        work.run(self._endpoint(model), self._manners)
        if work.failed:
            numbers = [
                row.number for row, ids in zip(rows, prompts, strict=True) if ids in work.failed
            ]
            why = next(iter(work.failed.values()))
            raise UserError(
                f"{self._named}: {name_rows(numbers)} got no answer ({why}): once that is mended, the same "
                "command goes on"
            )
        after = encoder.template.after_query()
        texts = [answers.of(ids)[: config.candidates] or [""] for ids in prompts]
        candidates = [[extract_sql(text, after) for text in one] for one in texts]
        chosen, agreed = choose_by_running(rows, candidates, config.choose, self._judge)
        sure: Sequence[float | None] = agreed or [None] * len(rows)
        return [
            Predicted(
                sql,
                None,
                tuple(dict.fromkeys(several)) if config.candidates > 1 else (),
                confidence,
            )
            for sql, several, confidence in zip(chosen, candidates, sure, strict=True)
        ]

    def _endpoint(self, model: str) -> Endpoint:
        config, encoder = self._config, self._encoder
        settings: dict[str, Any] = {
            "max_tokens": config.max_new_tokens,
            "temperature": config.temperature,
            "stop_token_ids": list(encoder.stop_ids),
            # In place of the base model's own, which vLLM takes where a request says nothing.
            **{"repetition_penalty": 1.0, "top_k": -1, "min_p": 0.0, "top_p": config.top_p},
        }
        if config.temperature > 0:
            settings["seed"] = config.seed
        after = encoder.template.after_query()
        if after and encoder.wrap is Wrap.plain:  # in a chat it may open the code block of the SQL
            settings["stop"] = [after]
        names = NAMES if config.endpoint_model is not None else replace(NAMES, model="the model")
        return Endpoint(self._url, model, Api.completion, settings, names)

    def _models(self) -> list[dict[str, Any]]:
        response = self._send("GET", "models")
        try:
            found = [
                {**one, "id": masked(str(one["id"]), self._manners.key)}
                for one in response.json()["data"]
            ]
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            found = []
        if not found:
            raise UserError(
                f"{self._named}: does not say which models it serves (HTTP {response.status_code}): is it "
                f"the address of the API, and does {NAMES.key} name its key?"
            )
        return found

    def _send(
        self,
        method: str,
        path: str,
        body: dict[str, str] | None = None,
        seconds: float = SECONDS,
    ) -> httpx2.Response:
        key = self._manners.key
        headers = {} if key is None else {"Authorization": f"Bearer {key}"}
        url = Endpoint(self._url, "", Api.completion, {}).below(path)
        limits = httpx2.Timeout(seconds, connect=CONNECTS)
        try:
            return httpx2.request(method, url, json=body, headers=headers, timeout=limits)
        except httpx2.HTTPError as error:
            raise UserError(
                f"{self._named}: no server answers there ({error or type(error).__name__}): start it, and "
                "run the same command again"
            ) from None
        except UNUSABLE as error:
            raise UserError(
                f"{self._named}: cannot be asked as the environment says (proxy, certificates): {error}"
            ) from None
