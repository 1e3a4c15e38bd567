"""What is saved beside an adapter so that it is asked as it was trained: template, wrap, base model."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from qc_experiments.config import ModelConfig, QuantConfig, RunConfig, Wrap, plain
from qc_experiments.data.encode import Encoder
from qc_experiments.data.template import Template, read_template
from qc_experiments.errors import UserError

TEMPLATE_FILE = "template.txt"
PROMPTING_FILE = "prompting.json"


@dataclass(frozen=True)
class SavedPrompting:
    """Everything but weights that inference needs.

    Attributes:
        template: the prompt template.
        wrap: plain text or chat template.
        max_new_tokens: longest answer in tokens.
        model: the base model's section of the config, as plain values.
        quant: the quantization section, as plain values.
    """

    template: Template
    wrap: Wrap
    max_new_tokens: int
    model: dict[str, Any]
    quant: dict[str, Any]

    @classmethod
    def of(cls, config: RunConfig, encoder: Encoder) -> SavedPrompting:
        """That of a run."""
        return cls(
            template=encoder.template,
            wrap=encoder.wrap,
            max_new_tokens=config.evaluation.max_new_tokens,
            model=plain(config.model),
            quant=plain(config.quant),
        )

    def save(self, folder: Path) -> None:
        """Write ``template.txt`` and ``prompting.json``."""
        (folder / TEMPLATE_FILE).write_text(self.template.text, encoding="utf-8")
        settings = asdict(self) | {"wrap": self.wrap.value}
        del settings["template"]
        text = json.dumps(settings, indent=2) + "\n"
        (folder / PROMPTING_FILE).write_text(text, encoding="utf-8")

    @classmethod
    def load(cls, folder: Path) -> SavedPrompting:
        """Read what `save` wrote.

        Raises:
            UserError: if the folder is not one that a run saved.
        """
        file = folder / PROMPTING_FILE
        try:
            settings = json.loads(file.read_text(encoding="utf-8"))
        except OSError:
            raise UserError(
                f"{folder}: has no {PROMPTING_FILE}; name the adapter/ (or model/) folder of a run"
            ) from None
        return cls(
            template=read_template(folder / TEMPLATE_FILE),
            wrap=Wrap(settings["wrap"]),
            max_new_tokens=int(settings["max_new_tokens"]),
            model=settings["model"],
            quant=settings["quant"],
        )

    def model_config(self) -> ModelConfig:
        """The base model's section, typed."""
        return _typed(ModelConfig, self.model)

    def quant_config(self) -> QuantConfig:
        """The quantization section, typed."""
        return _typed(QuantConfig, self.quant)


def _typed(schema: type[Any], values: dict[str, Any]) -> Any:
    from omegaconf import OmegaConf

    node = OmegaConf.structured(schema)
    OmegaConf.set_readonly(node, None)
    return OmegaConf.to_object(OmegaConf.merge(node, values))
