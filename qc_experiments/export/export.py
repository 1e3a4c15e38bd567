"""The story of an export: load, fold in, write, judge again; the folder is made whole or not at all."""

from __future__ import annotations

import logging
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from safetensors import SafetensorError

from qc_experiments.config.schema import DType, LoraConfig, QuantConfig
from qc_experiments.data.encode import Encoder
from qc_experiments.data.table import Row
from qc_experiments.errors import UserError
from qc_experiments.export.card import CardFacts, about_json, base_name, model_card
from qc_experiments.export.check import Check, compare_engines, held_out
from qc_experiments.export.engines import Engine, GgufEngine, GgufFile, Transformers
from qc_experiments.export.exact_prompt import ExactPrompt
from qc_experiments.export.gguf_file import TYPES, About, write_gguf
from qc_experiments.export.llama_server import LLAMA_SERVER, gguf_engine
from qc_experiments.export.merging import Merged, merged
from qc_experiments.export.run_files import FinishedRun
from qc_experiments.models.device import torch_dtype
from qc_experiments.models.files import Spelling
from qc_experiments.models.lora import saved_tokenizer
from qc_experiments.models.saved import SavedPrompting
from qc_experiments.system.files import write_failure
from qc_experiments.system.locking import held_if_free, waiting_for
from qc_experiments.system.words import counted
from qc_experiments.training.inputs import RunData

log = logging.getLogger(__name__)

KINDS = {"merged": ("bfloat16", "float32", "float16"), "gguf": ("q8_0", *TYPES), "adapter": ("",)}
"""Each format with the types of its weights, the default first."""
GGUF_NAME = "model.gguf"
DRAFT = ".exporting-"


@dataclass(frozen=True)
class Request:
    """What is asked for.

    Attributes:
        target: the folder to make.
        format: one of `KINDS`.
        kind: of its weights.
        check: held-out questions that it answers again; 0 for none.
        cache: where GGUF files are unpacked.
        base_model: where the base model is now, if it was moved.
        allowed: ``trust_remote_code`` and ``allow_pickle``.
    """

    target: Path
    format: str
    kind: str
    check: int
    cache: Path
    base_model: str | None
    allowed: Mapping[str, Any]


def export(run: FinishedRun, request: Request) -> Check | None:
    """Make the folder; what came of judging it again, or None where that was not done.

    Raises:
        UserError: for what the user has to mend; nothing is then left of the folder.
    """
    asked = held_out(run, request.check) if request.check else None
    gguf = gguf_engine() if request.check and request.format == "gguf" else None
    target = request.target
    try:
        with _drafted(target.parent) as draft:
            writer = {"merged": _write_merged, "gguf": _write_gguf, "adapter": _copy_adapter}
            prompt, about = writer[request.format](run, request, draft)
            check = None
            if asked is not None:
                check = _checked(run, request, draft, asked, prompt, gguf)
            _describe(run, request, draft, prompt, [*about, *(check.lines() if check else [])])
            os.chmod(draft, 0o755)
            os.replace(draft, target)
    except (OSError, RuntimeError, SafetensorError) as error:
        reason = write_failure(error)
        if reason is None:
            raise
        raise UserError(
            f"--to {target}: cannot be written ({reason}): make room there, or choose another folder"
        ) from error
    return check


@contextmanager
def _drafted(parent: Path) -> Iterator[Path]:
    """A folder to fill, held meanwhile, and gone afterwards unless it was renamed.

    Those that nobody holds any more, left by exports that were killed, are deleted.
    """
    parent.mkdir(parents=True, exist_ok=True)
    with ExitStack() as held:
        with waiting_for(parent):  # so that no other export takes this one for left
            for left in parent.glob(f"{DRAFT}*"):
                with suppress(OSError), held_if_free(left) as free:
                    if free:
                        shutil.rmtree(left, ignore_errors=True)
            draft = Path(tempfile.mkdtemp(prefix=DRAFT, dir=parent))
            held.callback(shutil.rmtree, draft, ignore_errors=True)
            held.enter_context(waiting_for(draft))
        yield draft


def _loaded(run: FinishedRun, request: Request) -> Merged:
    log.info("Loads   %s and its base model in float32", run.trained)
    return merged(run.trained, request.cache, request.base_model, request.allowed)


def _prompt_of(found: Merged) -> ExactPrompt:
    return ExactPrompt(Encoder(found.tokenizer, found.saved.template, found.saved.wrap))


def _write_merged(run: FinishedRun, request: Request, draft: Path) -> tuple[ExactPrompt, list[str]]:
    found = _loaded(run, request)
    prompt = _prompt_of(found)
    log.info("Writes  a whole model in %s", request.kind)
    model = found.model.to(torch_dtype(DType(request.kind)))
    model.generation_config.eos_token_id = prompt.encoder.stop_ids
    model.generation_config.pad_token_id = found.tokenizer.pad_token_id
    model.generation_config.do_sample = False
    model.save_pretrained(str(draft))
    tokenizer = found.tokenizer
    tokenizer.chat_template = prompt.chat_template()
    tokenizer.save_pretrained(str(draft))
    here = replace(found.saved.model, name_or_path=".", gguf_file=None, revision=None, adapter=None)
    here = replace(here, dtype=DType(request.kind))
    # Whatever was trained, these weights are asked as they are stored.
    plain = replace(found.saved, model=here, quant=QuantConfig(), lora=LoraConfig(), base=None)
    plain.save(draft)
    return prompt, [f"weights in {request.kind}", *([found.note] if found.note else [])]


def _write_gguf(run: FinishedRun, request: Request, draft: Path) -> tuple[ExactPrompt, list[str]]:
    found = _loaded(run, request)
    prompt = _prompt_of(found)
    log.info("Writes  %s in %s", GGUF_NAME, request.kind)
    about = About(run.folder.name, prompt.adds_bos, prompt.chat_template())
    write_gguf(found.model, found.tokenizer, draft / GGUF_NAME, request.kind, about)
    most = found.saved.max_new_tokens
    modelfile = prompt.modelfile(GGUF_NAME, most, run.config.data.max_length + most)
    (draft / "Modelfile").write_text(modelfile, encoding="utf-8")
    size = (draft / GGUF_NAME).stat().st_size
    return prompt, [
        f"weights in {request.kind}, {size / 1e6:.0f} MB",
        *([found.note] if found.note else []),
    ]


def _copy_adapter(run: FinishedRun, request: Request, draft: Path) -> tuple[ExactPrompt, list[str]]:
    """The folder as the run has it, with the name of the base model in place of a path of this machine."""
    import json

    if not run.holds_adapter:
        raise UserError(
            f"{run.folder}: holds a whole model, no adapter: take --format merged or gguf"
        )
    saved = SavedPrompting.load(run.trained)
    spelling = Spelling("", "", "--trust-remote-code", "--allow-pickle")
    tokenizer = saved_tokenizer(run.trained, request.allowed["trust_remote_code"], spelling)
    shutil.copytree(run.trained, draft, dirs_exist_ok=True)
    file = draft / "adapter_config.json"
    settings = json.loads(file.read_text(encoding="utf-8"))
    settings["base_model_name_or_path"] = base_name(run.config)[0]
    file.write_text(json.dumps(settings, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    return ExactPrompt(Encoder(tokenizer, saved.template, saved.wrap)), []


def _describe(
    run: FinishedRun, request: Request, draft: Path, prompt: ExactPrompt, about: Sequence[str]
) -> None:
    facts = CardFacts(run.folder.name, run.config, run.result, run.environment, prompt)
    texts = {
        "README.md": model_card(facts, request.format, about),
        "prompt.txt": prompt.text,
        "export.json": about_json(facts, request.format, weights=request.kind, about=list(about)),
    }
    for name, text in texts.items():
        (draft / name).write_text(text, encoding="utf-8")


def _checked(
    run: FinishedRun,
    request: Request,
    draft: Path,
    asked: tuple[RunData, list[Row]],
    prompt: ExactPrompt,
    gguf: type[GgufEngine] | None,
) -> Check | None:
    if request.format == "gguf" and gguf is None:
        log.warning(
            "Not judged again: a GGUF file is asked by llama-cpp-python (pip install llama-cpp-python) or by "
            "llama.cpp's llama-server (on PATH, or named by %s), and neither is here",
            LLAMA_SERVER,
        )
        return None
    rows = asked[1]
    encoder = prompt.encoder

    def own() -> Transformers:
        return Transformers(run.trained, request.cache, request.base_model, request.allowed)

    def exported() -> Engine:
        if gguf is None:
            base = request.base_model if request.format == "adapter" else None
            return Transformers(draft, request.cache, base, request.allowed)
        most = SavedPrompting.load(run.trained).max_new_tokens
        longest = max(map(len, encoder.examples(rows))) + most
        engine = gguf(GgufFile(draft / GGUF_NAME, encoder, most, longest))
        try:
            _refuse_other_tokens(engine, prompt, rows)
        except BaseException:
            engine.close()
            raise
        return engine

    name = "transformers" if gguf is None else gguf.name
    log.info("Asks    both models %s", counted(len(rows), "held-out question"))
    return compare_engines(run, asked, own, exported, (name, request.kind, request.cache))


def _refuse_other_tokens(engine: GgufEngine, prompt: ExactPrompt, rows: Sequence[Row]) -> None:
    """Refuse a file whose tokenizer cuts the prompts otherwise than the model was trained."""
    for row, ids in zip(rows, prompt.encoder.prompts(rows), strict=True):
        cut = engine.tokens(prompt.filled(row))
        if cut != list(ids):
            place = next((k for k, (a, b) in enumerate(zip(cut, ids, strict=False)) if a != b), -1)
            raise UserError(
                f"row {row.number}: llama.cpp cuts the prompt into other tokens than those of the training "
                f"(from token {place + 1} on): this tokenizer cannot be written as GGUF"
            )
