"""What a run has saved: written beside its adapter, and loaded to be asked by whoever has it now."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from enum import Enum
from os.path import lexists
from pathlib import Path
from typing import Any, TypeVar

from qc_experiments.config.compose import open_schema
from qc_experiments.config.schema import (
    DType,
    LoraConfig,
    ModelConfig,
    QuantConfig,
    RunConfig,
    SchemaConfig,
    SchemaFormat,
    Wrap,
    plain,
)
from qc_experiments.data.encode import Encoder
from qc_experiments.data.template import Template, read_template
from qc_experiments.databases.schema import SchemaReader
from qc_experiments.errors import UserError
from qc_experiments.models.base import load_base_model, model_source, silence_transformers
from qc_experiments.models.device import Precision, as_trained, precision_of
from qc_experiments.models.files import Spelling, part_of_run, read_json
from qc_experiments.models.fingerprint import BaseModelFingerprint, base_model_fingerprint
from qc_experiments.models.lora import (
    CONFIG_FILE,
    check_adapter_files,
    load_adapter,
    saved_tokenizer,
)
from qc_experiments.models.source import ModelSource

TEMPLATE_FILE = "template.txt"
PROMPTING_FILE = "prompting.json"

Choice = TypeVar("Choice", bound=Enum)


@dataclass(frozen=True)
class SavedPrompting:
    """Everything but weights that inference needs."""

    template: Template
    wrap: Wrap
    max_new_tokens: int  # longest answer
    model: ModelConfig  # the base model's section of the config
    quant: QuantConfig
    base: BaseModelFingerprint | None = None  # of the base model, where it was written down
    schema_format: SchemaFormat | None = None  # as data.schema_format
    schema: SchemaConfig = field(default_factory=SchemaConfig)
    linking: int | None = None  # as data.linking
    lora: LoraConfig = field(default_factory=LoraConfig)  # for `as_trained`
    dialect: str = "sqlite"  # what sqlglot calls the SQL that was learned

    @classmethod
    def of(
        cls,
        config: RunConfig,
        encoder: Encoder,
        base: BaseModelFingerprint | None,
        dialect: str = "sqlite",
    ) -> SavedPrompting:
        """That of a run."""
        most = config.evaluation.max_new_tokens
        data = config.data
        form = (data.schema_format, data.schema, data.linking)
        weights = (config.model, config.quant, base)
        return cls(encoder.template, encoder.wrap, most, *weights, *form, config.lora, dialect)

    def schemas(self) -> SchemaReader:
        """Reads schemas in the form in which they were trained."""
        return SchemaReader(self.schema_format or SchemaFormat.ddl, self.schema, self.linking)

    def as_measured(self) -> ModelConfig:
        """The base model's section, with the number format in which a run here would measure it."""
        return as_trained(self.model, self.lora, self.quant)

    def precision(self) -> Precision:
        """How a run here would compute it."""
        return precision_of(self.model, trained_weights=not self.lora.enabled)

    @property
    def makes_contexts(self) -> bool:
        """Whether contexts were written anew in training."""
        return self.schema_format is not None or self.linking is not None

    def save(self, folder: Path) -> None:
        """Write ``template.txt`` and ``prompting.json``; weights beside them become as readable as these."""
        (folder / TEMPLATE_FILE).write_text(self.template.text, encoding="utf-8")
        settings = {
            "wrap": self.wrap.value,
            "max_new_tokens": self.max_new_tokens,
            "model": plain(self.model),
            "quant": plain(self.quant),
            "lora": plain(self.lora),
            "base": None if self.base is None else asdict(self.base),
        }
        if self.makes_contexts:
            form = None if self.schema_format is None else self.schema_format.value
            settings |= {"schema_format": form, "schema": plain(self.schema)}
            settings["linking"] = self.linking
        if self.dialect != "sqlite":
            settings["dialect"] = self.dialect
        text = json.dumps(settings, indent=2) + "\n"
        (folder / PROMPTING_FILE).write_text(text, encoding="utf-8")
        for weights in folder.glob("*.safetensors"):  # which only their owner may read, as written
            shutil.copymode(folder / PROMPTING_FILE, weights)

    @classmethod
    def load(cls, folder: Path) -> SavedPrompting:
        """Read what `save` wrote, in whichever hands it has been since.

        What it says of code that may run or of pickles is not obeyed: only a user can allow that.
        """
        file = folder / PROMPTING_FILE
        if not lexists(file):
            advice = "name the adapter/ (or model/) folder of a run"
            advice = part_of_run(folder, ("adapter", "model"), advice)
            raise UserError(f"{folder}: has no {PROMPTING_FILE}; {advice}")
        settings = read_json(file)
        needed = {"wrap", "max_new_tokens", "model", "quant"}
        may = {"lora", "base", "schema_format", "schema", "linking", "dialect"}
        lacks, unknown = needed - settings.keys(), settings.keys() - needed - may
        if lacks or unknown:
            what = "lacks" if lacks else "has an unknown"
            keys = ", ".join(sorted(lacks or unknown))
            raise UserError(f"{file}: {what} key {keys}: train or copy it again")
        most = settings["max_new_tokens"]
        if not isinstance(most, int) or isinstance(most, bool) or most < 1:
            raise UserError(
                f"{file}: max_new_tokens={json.dumps(most)} must be a whole number of at least 1"
            )
        form, linking = settings.get("schema_format"), settings.get("linking")
        if linking is not None and (not isinstance(linking, int) or linking < 1):
            raise UserError(
                f"{file}: linking={json.dumps(linking)} must be a whole number of at least 1, or null"
            )
        dialect = settings.get("dialect", "sqlite")
        if not isinstance(dialect, str):
            raise UserError(
                f"{file}: dialect={json.dumps(dialect)} must be a text, such as postgres"
            )
        return cls(
            template=read_template(folder / TEMPLATE_FILE),
            wrap=_named(Wrap, settings["wrap"], file, "wrap"),
            max_new_tokens=most,
            model=typed(ModelConfig, settings["model"], file, "model"),
            quant=typed(QuantConfig, settings["quant"], file, "quant"),
            base=_base(settings.get("base"), file),
            schema_format=None
            if form is None
            else _named(SchemaFormat, form, file, "schema_format"),
            schema=typed(SchemaConfig, settings.get("schema", {}), file, "schema"),
            linking=linking,
            lora=typed(LoraConfig, settings.get("lora", {}), file, "lora"),
            dialect=dialect,
        )


def _named(kind: type[Choice], value: object, file: Path, key: str) -> Choice:
    names = {one.value: one for one in kind}
    if value not in list(names):
        raise UserError(f"{file}: {key}={json.dumps(value)} must be one of {', '.join(names)}")
    return names[value]


def typed(schema: type[Any], values: object, file: Path, key: str) -> Any:
    """Settings that somebody saved, as the dataclass of their section; a `UserError` for what is none."""
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    if not isinstance(values, dict):
        raise UserError(f"{file}: {key} must be an object of settings")
    if "${" in json.dumps(values):  # OmegaConf would resolve it, to an environment variable for one
        raise UserError(f"{file}: {key} has a value with ${{...}}: write out what it stands for")
    try:
        return OmegaConf.to_object(OmegaConf.merge(open_schema(schema), values))
    except (OmegaConfBaseException, UserError, ValueError, TypeError) as error:
        place = getattr(error, "full_key", None)
        where = f"{key}.{place}" if place else key
        raise UserError(f"{file}: {where}: {str(error).splitlines()[0]}") from None


def _base(found: object, file: Path) -> BaseModelFingerprint | None:
    if found is None:
        return None
    match found:
        case {"weights": str(weights), "config": dict(config), **others} if not others:
            return BaseModelFingerprint(weights, config)
    raise UserError(f"{file}: base must be null or hold weights (a text) and config (an object)")


def check_vocabulary(
    prompts: Sequence[Sequence[int]], encoder: Encoder, model: Any, folder: Path
) -> None:
    """Refuse a tokenizer (of a folder) whose tokens, as the prompts have them, the model does not know."""
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
    stored_as: DType | None = None,
    trust_remote_code: bool = False,
    allow_pickle: bool = False,
) -> tuple[Any, Any, SavedPrompting]:
    """Tokenizer, model and prompting of a run's ``adapter/`` or ``model/`` folder.

    An adapter's base model is where ``base_model`` says, else where it was in training; GGUF files and the
    embedded one are unpacked into ``cache``. The weights are stored as in training here, or all of them as
    ``stored_as``, none in fewer bits, on the CPU.
    """
    silence_transformers()
    saved = SavedPrompting.load(folder)
    if stored_as is not None:
        wanted = replace(saved.model, dtype=stored_as)
        saved = replace(saved, model=wanted, quant=QuantConfig(), lora=LoraConfig())
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
    place = saved.as_measured()
    names = f"{folder / PROMPTING_FILE}: base model "
    moved = "; name its new place with --base-model"
    if base_model is not None or not adapter:
        where, moved = str(folder) if base_model is None else base_model, ""
        place = replace(place, name_or_path=where, gguf_file=None, revision=None)
        names = "--base-model " if adapter else ""
    settings = replace(place, trust_remote_code=trust_remote_code, allow_pickle=allow_pickle)
    spelling = Spelling(names, moved, "--trust-remote-code", "--allow-pickle")
    tokenizer = saved_tokenizer(folder, trust_remote_code, spelling)
    source = model_source(settings, cache, spelling=spelling)
    if adapter:
        model = _with_adapter(folder, source, saved, settings, whole=stored_as is not None)
    else:
        model = load_base_model(source, settings, saved.quant, on_cpu=stored_as is not None)
        if stored_as is not None:
            model = _dequantized(model)
    unheeded = saved.model.trust_remote_code and not trust_remote_code
    if unheeded and hasattr(model.config, "auto_map"):
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


def _with_adapter(
    folder: Path,
    source: ModelSource,
    saved: SavedPrompting,
    settings: ModelConfig,
    *,
    whole: bool,
) -> Any:
    """The base model on which an adapter was trained, with the adapter."""
    named = f"--adapter {folder}"
    check_adapter_files(folder, named, settings.allow_pickle, source.spelling)
    local = Path(source.name_or_path).is_dir()
    if local:
        _check_base(folder, source, saved)
    base = load_base_model(source, settings, saved.quant, on_cpu=whole)
    if whole:
        base = _dequantized(base)
    if not local:  # the files of a hub's model are here now
        _check_base(folder, source, saved)
    return load_adapter(base, folder, named, trainable=False).eval()


def _dequantized(model: Any) -> Any:
    """The model with the weights that those of a quantized checkpoint stand for."""
    if not getattr(model, "is_quantized", False):
        return model
    whole = model.dequantize()
    whole.was_dequantized = True
    return whole.float()


def _check_base(folder: Path, source: ModelSource, saved: SavedPrompting) -> None:
    """Refuse a base model that is not the one on which an adapter was trained."""
    if saved.base is None:
        return
    here = base_model_fingerprint(source)
    different = "its files are not found" if here is None else saved.base.difference(here)
    if different:
        raise UserError(
            f"{source.named}: is not the model on which {folder} was trained: {different}; name the right "
            "one with --base-model"
        )
