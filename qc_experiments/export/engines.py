"""What lets an exported model answer: the engine it is for."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, ClassVar, Protocol

from qc_experiments.config.schema import EvaluationConfig
from qc_experiments.data.encode import Encoder, Example
from qc_experiments.data.table import Row
from qc_experiments.errors import UserError
from qc_experiments.judging.judge import Judge
from qc_experiments.models.saved import load_saved
from qc_experiments.sql.extraction import answer_complete, extract_sql

OnAnswer = Callable[[int], None]


class Engine(Protocol):
    """Lets a model answer greedily, as it is measured."""

    def answers(self, rows: Sequence[Row], judge: Judge, on_answer: OnAnswer) -> list[str]:
        """The SQL to each question."""

    def log_probabilities(self, examples: Sequence[Example]) -> list[list[float]]:
        """Of each token of each completion, in nats."""

    def close(self) -> None:
        """Give its memory back."""


class Transformers:
    """Of an adapter, and of a merged model.

    Args:
        folder: with ``prompting.json``.
        cache: where GGUF files are unpacked.
        base_model: of an adapter, where it was moved.
        allowed: ``trust_remote_code`` and ``allow_pickle``.
    """

    def __init__(
        self, folder: Path, cache: Path, base_model: str | None, allowed: Mapping[str, Any]
    ) -> None:
        self._tokenizer, self._model, self._saved = load_saved(folder, cache, base_model, **allowed)
        self.encoder = Encoder(self._tokenizer, self._saved.template, self._saved.wrap)
        self._precision = self._saved.precision()

    @property
    def number_format(self) -> str:
        """Of its weights, those in fewer bits aside."""
        return str(self._model.dtype).removeprefix("torch.")

    def answers(self, rows: Sequence[Row], judge: Judge, on_answer: OnAnswer) -> list[str]:
        """The SQL to each question."""
        from qc_experiments.generation.predictor import Predictor

        config = EvaluationConfig(max_new_tokens=self._saved.max_new_tokens)
        with self._precision():
            found = Predictor(self.encoder, config, None, judge).predict(
                self._model, rows, on_answer
            )
        return [one.sql for one in found]

    def log_probabilities(self, examples: Sequence[Example]) -> list[list[float]]:
        """Of each token of each completion, in nats."""
        import torch

        found = []
        with torch.no_grad(), self._precision():
            for one in examples:
                ids = torch.tensor([one.input_ids], device=self._model.device)
                logits = self._model(input_ids=ids).logits[0, len(one.prompt_ids) - 1 : -1]
                wanted = torch.tensor(one.completion_ids, device=logits.device)[:, None]
                taken = logits.float().log_softmax(-1).gather(1, wanted)
                found.append(taken[:, 0].tolist())
        return found

    def close(self) -> None:
        """Give its memory back."""
        from qc_experiments.system.memory import free_memory

        self._model = None
        free_memory()


@dataclass(frozen=True)
class GgufFile:
    """A file and how it is asked.

    Attributes:
        path: the file.
        encoder: of the run, whose tokens the file's tokenizer has to give.
        most: tokens of an answer, at most.
        longest: tokens of a prompt with its answer, at most.
    """

    path: Path
    encoder: Encoder
    most: int
    longest: int


class GgufEngine(ABC):
    """llama.cpp, in one of its forms.

    Args:
        file: that it has loaded.

    Attributes:
        name: of the form.
    """

    name: ClassVar[str]

    def __init__(self, file: GgufFile) -> None:
        self._file = file

    @abstractmethod
    def tokens(self, text: str) -> list[int]:
        """As llama.cpp cuts a prompt."""

    @abstractmethod
    def _continued(self, prompt: list[int]) -> Iterable[int]:
        """The likeliest tokens after a prompt, at most as many as an answer may have."""

    @abstractmethod
    def log_probabilities(self, examples: Sequence[Example]) -> list[list[float]]:
        """Of each token of each completion, in nats."""

    @abstractmethod
    def close(self) -> None:
        """Give its memory back."""

    def answers(self, rows: Sequence[Row], judge: Judge, on_answer: OnAnswer) -> list[str]:
        """The SQL to each question."""
        from qc_experiments.export.exact_prompt import ExactPrompt

        prompt = ExactPrompt(self._file.encoder)
        texts = [prompt.filled(row) for row in rows]
        found: dict[int, str] = {}
        for place in sorted(range(len(rows)), key=texts.__getitem__):  # what is shared is kept
            found[place] = self._answer(self.tokens(texts[place]))
            on_answer(1)
        return [found[place] for place in range(len(rows))]

    def _answer(self, prompt: list[int]) -> str:
        encoder = self._file.encoder
        tokenizer, stops = encoder.tokenizer, set(encoder.stop_ids)
        written: list[int] = []
        for token in self._continued(prompt):
            if token in stops:
                break
            written.append(token)
            if answer_complete(tokenizer.decode(written, skip_special_tokens=True)):
                break
        text = tokenizer.decode(written, skip_special_tokens=True)
        return extract_sql(text, encoder.template.after_query())


class LlamaCpp(GgufEngine):
    """llama.cpp in this process, by ``llama-cpp-python``.

    Args:
        file: to load.

    Raises:
        UserError: if it cannot be loaded.
    """

    name = "llama.cpp"

    def __init__(self, file: GgufFile) -> None:
        super().__init__(file)
        self._llama = self._loaded(every_logit=False)

    def _loaded(self, *, every_logit: bool) -> Any:
        """The model; one that gives the logits of each token is slow to ask."""
        import llama_cpp
        import torch

        threads = torch.get_num_threads()  # more than are free would wait for each other, spinning
        try:
            return llama_cpp.Llama(
                str(self._file.path),
                n_ctx=self._file.longest,
                n_threads=threads,
                n_threads_batch=threads,
                logits_all=every_logit,
                verbose=False,
            )
        except ValueError as error:
            raise UserError(f"{self._file.path}: llama.cpp cannot load it ({error})") from None

    def tokens(self, text: str) -> list[int]:
        """As llama.cpp cuts a prompt."""
        found: list[int] = self._llama.tokenize(text.encode(), add_bos=True, special=True)
        return found

    def _continued(self, prompt: list[int]) -> Iterable[int]:
        """The likeliest tokens after a prompt, at most as many as an answer may have."""
        return islice(self._llama.generate(prompt, temp=0.0, repeat_penalty=1.0), self._file.most)

    def log_probabilities(self, examples: Sequence[Example]) -> list[list[float]]:
        """Of each token of each completion, in nats."""
        import numpy as np

        found = []
        llama = self._loaded(every_logit=True)
        for one in examples:
            llama.reset()
            llama.eval(one.input_ids)
            logits = np.asarray(llama.scores[len(one.prompt_ids) - 1 : len(one) - 1], "f8")
            logits = logits - logits.max(-1, keepdims=True)
            normal = np.log(np.exp(logits).sum(-1))
            wanted = logits[np.arange(len(logits)), list(one.completion_ids)]
            found.append((wanted - normal).tolist())
        llama.close()
        return found

    def close(self) -> None:
        """Give its memory back."""
        self._llama.close()
