"""What is saved beside an adapter so that it is asked as it was trained: template, wrap, base model."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, replace
from os.path import lexists
from pathlib import Path
from typing import Any

from qc_experiments.config.schema import ModelConfig, QuantConfig, RunConfig, Wrap, plain
from qc_experiments.data.encode import Encoder
from qc_experiments.data.template import Template, read_template
from qc_experiments.errors import UserError
from qc_experiments.models.files import read_json
from qc_experiments.models.fingerprint import BaseModelFingerprint

TEMPLATE_FILE = "template.txt"
PROMPTING_FILE = "prompting.json"


@dataclass(frozen=True)
class SavedPrompting:
    """Everything but weights that inference needs.

    Attributes:
        template: the prompt template.
        wrap: plain text or chat template.
        max_new_tokens: longest answer in tokens.
        model: the base model's section of the config.
        quant: the quantization section.
        base: which base model an adapter was trained on; None where that was not written down.
    """

    template: Template
    wrap: Wrap
    max_new_tokens: int
    model: ModelConfig
    quant: QuantConfig
    base: BaseModelFingerprint | None = None

    @classmethod
    def of(
        cls, config: RunConfig, encoder: Encoder, base: BaseModelFingerprint | None
    ) -> SavedPrompting:
        """That of a run."""
        return cls(
            template=encoder.template,
            wrap=encoder.wrap,
            max_new_tokens=config.evaluation.max_new_tokens,
            model=config.model,
            quant=config.quant,
            base=base,
        )

    def save(self, folder: Path) -> None:
        """Write ``template.txt`` and ``prompting.json``."""
        (folder / TEMPLATE_FILE).write_text(self.template.text, encoding="utf-8")
        settings = {
            "wrap": self.wrap.value,
            "max_new_tokens": self.max_new_tokens,
            "model": plain(self.model),
            "quant": plain(self.quant),
            "base": None if self.base is None else asdict(self.base),
        }
        text = json.dumps(settings, indent=2) + "\n"
        (folder / PROMPTING_FILE).write_text(text, encoding="utf-8")

    @classmethod
    def load(cls, folder: Path) -> SavedPrompting:
        """Read what `save` wrote, in whichever hands it has been since.

        What it says of code that may run or of pickles is not obeyed: only a user can allow that.

        Raises:
            UserError: if the folder is not one that a run saved.
        """
        file = folder / PROMPTING_FILE
        if not lexists(file):
            raise UserError(
                f"{folder}: has no {PROMPTING_FILE}; name the adapter/ (or model/) folder of a run"
            )
        settings = read_json(file)
        needed = {"wrap", "max_new_tokens", "model", "quant"}
        for what, keys in (
            ("lacks", needed - settings.keys()),
            ("has an unknown", settings.keys() - needed - {"base"}),
        ):
            if keys:
                raise UserError(
                    f"{file}: {what} key {', '.join(sorted(keys))}: train or copy it again"
                )
        most = settings["max_new_tokens"]
        if not isinstance(most, int) or isinstance(most, bool) or most < 1:
            raise UserError(
                f"{file}: max_new_tokens={json.dumps(most)} must be a whole number of at least 1"
            )
        wraps = {wrap.value: wrap for wrap in Wrap}
        if settings["wrap"] not in list(wraps):
            raise UserError(
                f"{file}: wrap={json.dumps(settings['wrap'])} must be one of {', '.join(wraps)}"
            )
        return cls(
            template=read_template(folder / TEMPLATE_FILE),
            wrap=wraps[settings["wrap"]],
            max_new_tokens=most,
            model=_typed(ModelConfig, settings["model"], file, "model"),
            quant=_typed(QuantConfig, settings["quant"], file, "quant"),
            base=_base(settings.get("base"), file),
        )

    def whole_model(self, folder: Path) -> ModelConfig:
        """The section of a model all of whose weights were trained and saved in a folder."""
        return replace(self.model, name_or_path=str(folder), gguf_file=None, revision=None)


def _typed(schema: type[Any], values: object, file: Path, key: str) -> Any:
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    if not isinstance(values, dict):
        raise UserError(f"{file}: {key} must be an object of settings")
    if "${" in json.dumps(values):  # OmegaConf would resolve it, to an environment variable for one
        raise UserError(f"{file}: {key} has a value with ${{...}}: write out what it stands for")
    node = OmegaConf.structured(schema)
    OmegaConf.set_readonly(node, None)
    try:
        return OmegaConf.to_object(OmegaConf.merge(node, values))
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
