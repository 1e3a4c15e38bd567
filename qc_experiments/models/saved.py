"""What a run has saved, loaded to be asked: by whoever has it now, on whatever machine."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import replace
from os.path import lexists
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qc_experiments.errors import UserError

if TYPE_CHECKING:
    from qc_experiments.config.schema import ModelConfig
    from qc_experiments.data.encode import Encoder
    from qc_experiments.models.base import ModelSource
    from qc_experiments.models.files import Spelling
    from qc_experiments.models.prompting import SavedPrompting


def check_vocabulary(
    prompts: Sequence[Sequence[int]], encoder: Encoder, model: Any, folder: Path
) -> None:
    """Refuse a tokenizer whose tokens the model does not know.

    Args:
        prompts: questions in tokens.
        encoder: made them.
        model: is to answer them.
        folder: of the tokenizer, for the message.

    Raises:
        UserError: if one of the tokens is beyond the model's.
    """
    rows = model.get_input_embeddings().weight.shape[0]
    largest = max(max(ids, default=0) for ids in (*prompts, encoder.stop_ids))
    if largest >= rows:
        raise UserError(
            f"{folder}: its tokenizer has a token {largest}, the model knows {rows}: the tokenizer is that "
            "of another model; take the one that was saved with the adapter"
        )


def load_saved(
    folder: Path,
    cache: Path,
    base_model: str | None = None,
    *,
    trust_remote_code: bool = False,
    allow_pickle: bool = False,
) -> tuple[Any, Any, SavedPrompting]:
    """Tokenizer, model and prompting of a run's ``adapter/`` or ``model/`` folder.

    Args:
        folder: what the run saved.
        cache: folder of what is made once per user, for GGUF files and the embedded base model.
        base_model: where an adapter's base model is; None: where it was in training.
        trust_remote_code: whether code that comes with the model or tokenizer may run.
        allow_pickle: whether weights may be pickles.

    Raises:
        UserError: if the folder is not one that a run saved, or its base model cannot be loaded or is
            another one.
    """
    import transformers

    from qc_experiments.models.adapters import CONFIG_FILE, saved_tokenizer
    from qc_experiments.models.base import load_base_model, model_source
    from qc_experiments.models.prompting import SavedPrompting

    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    saved = SavedPrompting.load(folder)
    adapter = lexists(folder / CONFIG_FILE) or not lexists(folder / "config.json")
    if base_model is not None and not adapter:
        raise UserError(
            f"--base-model {base_model}: {folder} holds a whole model, no adapter: leave it out"
        )
    if "/" in (saved.model.attn_implementation or "") and not trust_remote_code:
        raise UserError(
            f"{folder}: computes attention with code of the hub ({saved.model.attn_implementation}): look at "
            "it, then allow it with --trust-remote-code"
        )
    tokenizer = saved_tokenizer(folder, trust_remote_code, _spelling(folder, None))
    place = saved.model if adapter else saved.whole_model(folder)
    if base_model is not None:
        place = replace(place, name_or_path=base_model, gguf_file=None, revision=None)
    settings = replace(place, trust_remote_code=trust_remote_code, allow_pickle=allow_pickle)
    if adapter:
        source = model_source(settings, cache, spelling=_spelling(folder, base_model))
        model = _with_adapter(folder, source, saved, settings)
    else:
        source = model_source(settings, cache, spelling=replace(_spelling(folder, ""), model=""))
        model = load_base_model(source, settings, saved.quant)
    if (
        saved.model.trust_remote_code
        and not trust_remote_code
        and hasattr(model.config, "auto_map")
    ):
        raise UserError(
            f"{source.named}: was trained with code that comes with the model: read that code, then allow it "
            "with --trust-remote-code"
        )
    if adapter and saved.base is None:
        print(
            f"warning: {folder} does not say which weights its base model had (it was saved by an older "
            "version): another model of the same shape would not be noticed",
            file=sys.stderr,
        )
    return tokenizer, model, saved


def _spelling(folder: Path, base_model: str | None) -> Spelling:
    from qc_experiments.models.files import Spelling
    from qc_experiments.models.prompting import PROMPTING_FILE

    return Spelling(
        model="--base-model "
        if base_model is not None
        else f"{folder / PROMPTING_FILE}: base model ",
        moved="" if base_model is not None else "; name its new place with --base-model",
        trust_remote_code="--trust-remote-code",
        allow_pickle="--allow-pickle",
    )


def _with_adapter(
    folder: Path, source: ModelSource, saved: SavedPrompting, settings: ModelConfig
) -> Any:
    """The base model on which an adapter was trained, with the adapter."""
    from qc_experiments.models.adapters import check_adapter_files, load_adapter
    from qc_experiments.models.base import load_base_model

    named = f"--adapter {folder}"
    check_adapter_files(folder, named, settings.allow_pickle, source.spelling)
    local = Path(source.name_or_path).is_dir()
    if local:
        _check_base(folder, source, saved)
    base = load_base_model(source, settings, saved.quant)
    if not local:  # the files of a hub's model are here now
        _check_base(folder, source, saved)
    return load_adapter(base, folder, named, trainable=False).eval()


def _check_base(folder: Path, source: ModelSource, saved: SavedPrompting) -> None:
    """Refuse a base model that is not the one on which an adapter was trained."""
    from qc_experiments.models.fingerprint import base_model_fingerprint

    if saved.base is None:
        return
    here = base_model_fingerprint(source)
    different = "its files are not found" if here is None else saved.base.difference(here)
    if different:
        raise UserError(
            f"{source.named}: is not the model on which {folder} was trained: {different}; name the right "
            "one with --base-model"
        )
