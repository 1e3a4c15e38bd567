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

    def answer(self, handler: Handler) -> None:
        length = int(handler.headers["Content-Length"])
        body = json.loads(handler.rfile.read(length))
        prompt = body["messages"][-1]["content"] if "messages" in body else body["prompt"]
        question = prompt.strip().splitlines()[-1]
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
        found = {"object": "list", "data": [{"id": name} for name in self.told.models]}
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
