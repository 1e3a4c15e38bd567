"""Servers on this machine that speak OpenAI's API: one that does as a test says, one with a run's model."""

from __future__ import annotations

import json
import ssl
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Status:
    """An HTTP status other than success, and what comes with it."""

    code: int
    message: str = "no"
    headers: dict[str, str] = field(default_factory=dict)


class Drop:
    """The connection is closed without an answer."""


@dataclass(frozen=True)
class Stall:
    """Nothing comes for a while."""

    seconds: float = 30.0


@dataclass(frozen=True)
class Raw:
    """A success that is no answer."""

    text: str


@dataclass(frozen=True)
class Written:
    """Answers, and how they ended."""

    texts: tuple[str, ...]
    finish: str = "stop"


Said = str | None | Status | Drop | Stall | Raw | Written


class Server:
    """Answers as ``says(question, time)`` has it: the prompt's last line, and how often it came before.

    Attributes:
        asked: requests for each question.
        answered: answers for each question.
        bodies: of all requests.
        keys: that came with them.
        moments: at which they came.
    """

    def __init__(self, says: Callable[[str, int], Said]) -> None:
        self.says = says
        self.models = ["served"]
        self.asked: Counter[str] = Counter()
        self.answered: Counter[str] = Counter()
        self.bodies: list[dict[str, Any]] = []
        self.paths: list[str] = []
        self.keys: set[str | None] = set()
        self.moments: list[float] = []
        self.together = self.most_together = 0
        self._lock = threading.Lock()
        self.url = ""

    def listed(self) -> list[dict[str, Any]]:
        """The models, as the API lists them."""
        return [{"id": name} for name in self.models]

    def answer(self, handler: Handler) -> None:
        length = int(handler.headers["Content-Length"])
        body = json.loads(handler.rfile.read(length))
        prompt = body["messages"][-1]["content"] if "messages" in body else body["prompt"]
        question = prompt.strip().splitlines()[-1] if isinstance(prompt, str) else str(prompt)
        with self._lock:
            self.moments.append(time.monotonic())
            self.bodies.append(body)
            self.paths.append(handler.path)
            self.keys.add(handler.headers["Authorization"])
            before = self.asked[question]
            self.asked[question] += 1
            self.together += 1
            self.most_together = max(self.together, self.most_together)
        try:
            self._say(handler, self.says(question, before), body, question)
        finally:
            with self._lock:
                self.together -= 1

    def _say(self, handler: Handler, said: Said, body: dict[str, Any], question: str) -> None:
        if isinstance(said, Drop):
            handler.close_connection = True
            return
        if isinstance(said, Stall):
            time.sleep(said.seconds)
            handler.close_connection = True
            return
        if isinstance(said, Status):
            handler.send(said.code, json.dumps({"error": {"message": said.message}}), said.headers)
            return
        if isinstance(said, Raw):
            handler.send(200, said.text, {})
            return
        written = said if isinstance(said, Written) else Written((said,) * body.get("n", 1))
        choices: list[dict[str, Any]] = [
            {"index": n, "finish_reason": written.finish, "text": text}
            for n, text in enumerate(written.texts)
        ]
        if "messages" in body:
            for one in choices:
                one["message"] = {"role": "assistant", "content": one.pop("text")}
        usage = {"prompt_tokens": 10, "completion_tokens": 3 * len(choices)}
        with self._lock:
            self.answered[question] += len(choices)
        handler.send(200, json.dumps({"choices": choices, "usage": usage}), {})


class Handler(BaseHTTPRequestHandler):
    """Hands requests on to a `Server`."""

    protocol_version = "HTTP/1.1"
    told: Server

    def do_POST(self) -> None:
        self.told.answer(self)

    def do_GET(self) -> None:
        found = {"object": "list", "data": self.told.listed()}
        self.send(200 if self.told.models else 404, json.dumps(found), {})

    def send(self, code: int, text: str, headers: dict[str, str]) -> None:
        content = text.encode()
        self.send_response(code)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: object) -> None:
        pass


class _Quiet(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64

    def handle_error(self, request: Any, client_address: Any) -> None:
        pass  # whoever asked is gone


@contextmanager
def serving(
    says: Callable[[str, int], Said], certificate: tuple[Path, Path] | None = None
) -> Iterator[Server]:
    """A server on a free port, over https where there is a certificate with its key."""
    with served(Server(says), certificate) as told:
        yield told


@contextmanager
def served(told: Server, certificate: tuple[Path, Path] | None = None) -> Iterator[Server]:
    """Put a server on a free port."""
    http = _Quiet(("127.0.0.1", 0), type("Own", (Handler,), {"told": told}))
    scheme = "http"
    if certificate is not None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*certificate)
        http.socket = context.wrap_socket(  # hands are shaken in the thread of each connection
            http.socket, server_side=True, do_handshake_on_connect=False
        )
        scheme = "https"
    told.url = f"{scheme}://127.0.0.1:{http.server_port}/v1"
    threading.Thread(target=http.serve_forever, daemon=True).start()
    try:
        yield told
    finally:
        http.shutdown()
        http.server_close()


class AdapterServer(Server):
    """Serves a run's adapter by plain PEFT and transformers' ``generate``, as any server would.

    Attributes:
        prompts: tokens of all prompts.
    """

    def __init__(self, adapter: Path) -> None:
        import torch
        from peft import AutoPeftModelForCausalLM
        from transformers import AutoTokenizer

        super().__init__(lambda question, before: None)
        self.tokenizer = AutoTokenizer.from_pretrained(adapter)
        self.model = AutoPeftModelForCausalLM.from_pretrained(adapter, dtype=torch.float32).eval()
        self.prompts: list[list[int]] = []

    def _say(self, handler: Handler, said: Said, body: dict[str, Any], question: str) -> None:
        import torch

        tokenizer = self.tokenizer
        if "messages" in body:
            text = tokenizer.apply_chat_template(
                body["messages"],
                tokenize=False,
                add_generation_prompt=True,
                **body.get("chat_template_kwargs", {}),
            )
            ids = tokenizer(text, add_special_tokens=False).input_ids
        else:
            ids = tokenizer(body["prompt"]).input_ids
        with self._lock, torch.no_grad():
            self.prompts.append(ids)
            (found,) = self.model.generate(
                torch.tensor([ids]), max_new_tokens=body["max_tokens"], do_sample=False
            )
        answer = tokenizer.decode(found[len(ids) :], skip_special_tokens=True)
        for end in body.get("stop", ()):
            answer = answer.partition(end)[0]
        super()._say(handler, answer, body, question)


class LoraServer(Server):
    """As a vLLM that takes adapters while it runs: a base model by plain transformers, adapters by PEFT.

    Attributes:
        takes_adapters: whether it was started so.
        prompts: tokens of all prompts, by the model that was asked.
    """

    def __init__(self, base: Path) -> None:
        import torch
        from transformers import AutoModelForCausalLM, AutoTokenizer

        super().__init__(lambda question, before: None)
        self.models = [str(base)]
        self.tokenizer = AutoTokenizer.from_pretrained(base)
        self.base = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32).eval()
        self.adapters: dict[str, Any] = {}
        self.takes_adapters = True
        self.prompts: dict[str, list[list[int]]] = {}

    def answer(self, handler: Handler) -> None:
        path = handler.path.removeprefix("/v1/")
        if path not in ("load_lora_adapter", "unload_lora_adapter"):
            super().answer(handler)
            return
        body = json.loads(handler.rfile.read(int(handler.headers["Content-Length"])))
        self.paths.append(handler.path)
        self.keys.add(handler.headers["Authorization"])
        handler.send(*self._changed(path, body), {})

    def _changed(self, path: str, body: dict[str, Any]) -> tuple[int, str]:
        """Take or drop an adapter: HTTP status and what is said."""
        from copy import deepcopy

        from peft import PeftModel

        name = body.get("lora_name")
        if not self.takes_adapters:
            return 404, '{"detail": "Not Found"}'
        if not name:
            return (
                400,
                '{"error": {"message": "Both \'lora_name\' and \'lora_path\' must be provided."}}',
            )
        if path.startswith("unload"):
            found = self.adapters.pop(name, None)
            return (404, "not found") if found is None else (200, "removed")
        if name in self.adapters:
            return 400, f"The lora adapter '{name}' has already been loaded."
        try:
            self.adapters[name] = PeftModel.from_pretrained(
                deepcopy(self.base), body["lora_path"]
            ).eval()
        except (OSError, ValueError) as error:
            return 404, str(error)
        return 200, f"Success: LoRA adapter '{name}' added successfully."

    def listed(self) -> list[dict[str, Any]]:
        base = self.models[0]
        loaded = [{"id": name, "parent": base} for name in self.adapters]
        return [{"id": base, "parent": None}, *loaded]

    def _say(self, handler: Handler, said: Said, body: dict[str, Any], question: str) -> None:
        import torch

        model = {self.models[0]: self.base, **self.adapters}.get(body["model"])
        if model is None:
            handler.send(404, json.dumps({"error": {"message": "no such model"}}), {})
            return
        if said is not None:
            super()._say(handler, said, body, question)
            return
        ids = body["prompt"]
        with self._lock, torch.no_grad():
            self.prompts.setdefault(body["model"], []).append(ids)
            (found,) = model.generate(
                torch.tensor([ids]),
                max_new_tokens=body["max_tokens"],
                do_sample=False,
                eos_token_id=body["stop_token_ids"],
            )
        answer = self.tokenizer.decode(found[len(ids) :], skip_special_tokens=True)
        super()._say(handler, answer, body, question)
