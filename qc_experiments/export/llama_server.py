"""llama.cpp's ``llama-server`` as the engine of a GGUF file: a child process, asked on this machine alone."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Sequence
from contextlib import suppress
from http.client import HTTPConnection, HTTPException
from importlib.util import find_spec
from typing import Any

from qc_experiments.data.encode import Example
from qc_experiments.errors import UserError
from qc_experiments.export.engines import GgufEngine, GgufFile, LlamaCpp

LLAMA_SERVER = "LLAMA_SERVER"
"""Environment variable: the program, where it is not on PATH, or instead of ``llama-cpp-python``."""
PROGRAM = "llama-server"
HOST = "127.0.0.1"
LOADING_SECONDS, ANSWER_SECONDS = 600.0, 600.0
LAUNCH = """
import ctypes, os, signal, sys
if sys.platform == "linux":
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG
os.execv(sys.argv[1], sys.argv[1:])
"""
"""Starts the program so that it ends with this process, be that by SIGKILL (on Linux alone)."""
FORCED = 1e4
"""Added to a token's logit, for it to be taken whatever the model says; what it says is told nevertheless."""
NO_CHARACTER = "\ufffd"
EVERY = 1_000_000
"""More tokens than any model knows."""


def gguf_engine() -> type[GgufEngine] | None:
    """What asks a GGUF file here: the server that is named, else the package, else a server on PATH.

    Raises:
        UserError: if what is named is no program.
    """
    named = os.environ.get(LLAMA_SERVER)
    if not named and find_spec("llama_cpp") is not None:
        return LlamaCpp
    if _program() is not None:
        return LlamaServer
    if named:
        raise UserError(f"{LLAMA_SERVER}={named}: is no program that can be run")
    return None


def _program() -> str | None:
    return shutil.which(os.path.expanduser(os.environ.get(LLAMA_SERVER) or PROGRAM))


class LlamaServer(GgufEngine):
    """llama.cpp's server with a file, which is killed at the end.

    Args:
        file: to load.

    Raises:
        UserError: if it cannot load the file.
    """

    name = PROGRAM

    def __init__(self, file: GgufFile) -> None:
        import torch

        super().__init__(file)
        self._end = file.encoder.end_ids[-1]
        self._port = _free_port()
        options = {
            "-m": file.path,
            "-c": file.longest,
            "-np": 1,
            "-t": torch.get_num_threads(),  # more than are free would wait for each other, spinning
            "--host": HOST,
            "--port": self._port,
        }
        self._said = tempfile.TemporaryFile()  # noqa: SIM115 (closed with the process)
        # The user's own settings of a server (LLAMA_ARG_..., LLAMA_API_KEY) are not for this one.
        environment = {k: v for k, v in os.environ.items() if not k.startswith("LLAMA_")}
        self._process = subprocess.Popen(
            [
                *(sys.executable, "-I", "-S", "-c", LAUNCH, _program() or PROGRAM),
                *(str(one) for pair in options.items() for one in pair),
            ],
            stdin=subprocess.DEVNULL,
            stdout=self._said,
            stderr=subprocess.STDOUT,
            env=environment,
            start_new_session=True,  # Ctrl-C is the parent's affair
        )
        try:
            self._wait_until_loaded()
        except BaseException:
            self.close()
            raise

    def tokens(self, text: str) -> list[int]:
        """As llama.cpp cuts a prompt."""
        asked = {"content": text, "add_special": True, "parse_special": True}
        found: list[int] = self._asked("/tokenize", asked)["tokens"]
        return found

    def _continued(self, prompt: list[int]) -> Iterable[int]:
        """The likeliest tokens after a prompt, at most as many as an answer may have.

        One is asked for after the other, what was read before being kept: the server refuses to tell of an
        answer that is no whole text, which ends in the middle of a character or would be none.
        """
        read = list(prompt)
        for _ in range(self._file.most):
            found = self._weighed(read, self._end, 1)
            likeliest = max(found, key=found.__getitem__)
            yield likeliest
            read.append(likeliest)

    def log_probabilities(self, examples: Sequence[Example]) -> list[list[float]]:
        """Of each token of each completion, in nats."""
        return [
            [
                self._log_probability(one.input_ids[:place], one.input_ids[place])
                for place in range(len(one.prompt_ids), len(one))
            ]
            for one in examples
        ]

    def _log_probability(self, read: Sequence[int], token: int) -> float:
        whole = NO_CHARACTER not in self._file.encoder.tokenizer.decode([token])
        forced, count = (token, 1) if whole else (self._end, EVERY)  # slow, and seldom needed
        return self._weighed(read, forced, count)[token]

    def _weighed(self, read: Sequence[int], forced: int, count: int) -> dict[int, float]:
        """Log-probabilities of the likeliest tokens after those that were read, and of one that is forced."""
        answer = self._asked(
            "/completion",
            {
                "prompt": list(read),
                "n_predict": 1,
                "temperature": 0,
                "cache_prompt": True,
                "n_probs": count,
                "logit_bias": [[forced, FORCED]],
            },
        )
        try:
            (told,) = answer["completion_probabilities"]
            return {one["id"]: one["logprob"] for one in (*told["top_logprobs"], told)}
        except (KeyError, ValueError):
            raise UserError(
                f"{PROGRAM}: does not tell the probability of a token, as those since 2025 do: take a newer "
                "one"
            ) from None

    def _asked(self, path: str, body: dict[str, object]) -> dict[str, Any]:
        try:
            status, text = self._sent("POST", path, json.dumps(body), ANSWER_SECONDS)
        except (OSError, HTTPException) as error:
            raise self._failed(f"does not answer ({error or type(error).__name__})") from None
        if status != 200:
            raise self._failed(f"answers {path} with {status} {text[:200]}")
        found: dict[str, Any] = json.loads(text)
        return found

    def _sent(self, method: str, path: str, body: str | None, seconds: float) -> tuple[int, str]:
        # No proxy that the environment names is between.
        connection = HTTPConnection(HOST, self._port, timeout=seconds)
        try:
            connection.request(method, path, body, {"Content-Type": "application/json"})
            answer = connection.getresponse()
            return answer.status, answer.read().decode()
        finally:
            connection.close()

    def _wait_until_loaded(self) -> None:
        until = time.monotonic() + LOADING_SECONDS
        while time.monotonic() < until:
            if (code := self._process.poll()) is not None:
                how = f"exit code {code}" if code >= 0 else signal.Signals(-code).name
                raise self._failed(f"cannot load it ({how})")
            with suppress(OSError, HTTPException):  # it does not listen yet
                if self._sent("GET", "/health", None, 5)[0] == 200:
                    return
            time.sleep(0.1)
        raise self._failed(f"has not loaded it in {LOADING_SECONDS:.0f} seconds")

    def _failed(self, what: str) -> UserError:
        self._said.seek(0)
        lines = self._said.read().decode(errors="replace").split("\n")
        last = next((line.strip() for line in reversed(lines) if line.strip()), "nothing")
        return UserError(f"{self._file.path}: {PROGRAM} {what}; the last it said: {last[:300]}")

    def close(self) -> None:
        """End the process."""
        self._process.kill()
        self._process.wait()
        self._said.close()


def _free_port() -> int:
    with socket.socket() as found:
        found.bind((HOST, 0))
        port: int = found.getsockname()[1]
        return port
