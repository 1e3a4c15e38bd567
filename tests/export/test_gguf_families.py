"""A GGUF file computes what transformers computes, for each family that is written: asked in llama.cpp."""

from __future__ import annotations

import json
from contextlib import closing
from copy import deepcopy

import pytest
import torch
from helpers.families import TINY
from helpers.small_model import END, byte_tokenizer
from tokenizers import Tokenizer
from transformers import AutoModelForCausalLM, PreTrainedTokenizerFast
from transformers.models.gemma import GemmaConfig
from transformers.models.gemma2 import Gemma2Config
from transformers.models.gemma3 import Gemma3TextConfig
from transformers.models.gpt2 import GPT2Config
from transformers.models.llama import LlamaConfig
from transformers.models.mistral import MistralConfig
from transformers.models.qwen2 import Qwen2Config
from transformers.models.qwen3 import Qwen3Config
from transformers.models.smollm3 import SmolLM3Config

from qc_experiments.config.schema import Wrap
from qc_experiments.data.encode import Encoder, Example
from qc_experiments.data.table import Row
from qc_experiments.data.template import Template
from qc_experiments.errors import UserError
from qc_experiments.export.engines import GgufFile
from qc_experiments.export.gguf_file import FAMILIES, About, write_gguf
from qc_experiments.export.llama_server import LlamaServer

SIZES = TINY | {"vocab_size": 320, "num_hidden_layers": 6, "bos_token_id": None}
ROPE = {"rope_type": "llama3", "rope_theta": 1e4, "factor": 8.0, "low_freq_factor": 1.0}
LLAMA3 = ROPE | {"high_freq_factor": 4.0, "original_max_position_embeddings": 64}
CONFIGS = {
    "llama": LlamaConfig(**SIZES),
    "llama with biases, tied": LlamaConfig(
        **SIZES, attention_bias=True, mlp_bias=True, tie_word_embeddings=True
    ),
    "llama 3": LlamaConfig(**SIZES, rope_parameters=LLAMA3),
    "llama, longer": LlamaConfig(
        **SIZES, rope_parameters={"rope_type": "linear", "rope_theta": 1e4, "factor": 2.0}
    ),
    "mistral": MistralConfig(**SIZES, sliding_window=None),
    "smollm3": SmolLM3Config(**SIZES),
    "qwen2": Qwen2Config(**SIZES),
    "qwen3": Qwen3Config(**SIZES, head_dim=32),
    "gemma": GemmaConfig(**SIZES, head_dim=32),
    "gemma2": Gemma2Config(**SIZES, head_dim=32, query_pre_attn_scalar=32, sliding_window=16),
    "gemma3": Gemma3TextConfig(**SIZES, head_dim=32, query_pre_attn_scalar=32, sliding_window=16),
}


def tokenizer():
    """A token for each byte, and one of two."""
    whole = json.loads(byte_tokenizer().backend_tokenizer.to_str())
    whole["model"]["vocab"]["th"] = 257
    whole["model"]["merges"] = [["t", "h"]]
    found = Tokenizer.from_str(json.dumps(whole))
    return PreTrainedTokenizerFast(tokenizer_object=found, eos_token=END)


def made(config):
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(deepcopy(config), attn_implementation="eager").float()
    for name, weight in model.named_parameters():
        if name.endswith(("norm.weight", "bias")):  # which start as ones and zeros
            torch.nn.init.normal_(weight, weight.detach().mean(), 0.3)
    return model.eval()


@pytest.mark.parametrize("name", CONFIGS)
def test_llama_cpp_computes_what_transformers_computes(name, tmp_path):
    llama_cpp = pytest.importorskip("llama_cpp", reason="llama-cpp-python is not installed")
    model = made(CONFIGS[name])
    path = tmp_path / "model.gguf"
    write_gguf(model, tokenizer(), path, "f32", About("tiny", False, None))
    ids = torch.randint(0, 250, (40,), generator=torch.Generator().manual_seed(1)).tolist()
    with torch.no_grad():
        wanted = model(input_ids=torch.tensor([ids])).logits[0].log_softmax(-1)
    llama = llama_cpp.Llama(str(path), n_ctx=64, logits_all=True, verbose=False)
    llama.eval(ids)
    found = torch.tensor(llama.scores[: len(ids)]).log_softmax(-1)
    llama.close()
    assert float((found - wanted).abs().max()) < 0.02
    assert float(wanted.std()) > 0.1  # that is, it says something


@pytest.mark.usefixtures("real_server")
@pytest.mark.parametrize("name", CONFIGS)
def test_llama_server_computes_it_too(name, tmp_path):
    """Of bytes that are no text: what a spoilt model writes is told as well."""
    model, own = made(CONFIGS[name]), tokenizer()
    template = Template("{context} {question} {query}", "template.txt")
    encoder = Encoder(own, template, Wrap.plain)
    file = GgufFile(tmp_path / "model.gguf", encoder, most=8, longest=64)
    write_gguf(model, own, file.path, "f32", About("tiny", False, None))
    ids = torch.randint(0, 250, (40,), generator=torch.Generator().manual_seed(1)).tolist()
    example = Example(Row(2, "", "", ""), tuple(ids[:20]), tuple(ids[20:]))
    with torch.no_grad():
        wanted = model(input_ids=torch.tensor([ids])).logits[0, 19:-1].log_softmax(-1)
        read = list(ids[:20])
        for _ in range(file.most):
            read.append(int(model(input_ids=torch.tensor([read])).logits[0, -1].argmax()))
    with closing(LlamaServer(file)) as server:
        (found,) = server.log_probabilities([example])
        assert list(server._continued(ids[:20])) == read[20:]
        assert server.tokens("the cat") == own("the cat").input_ids
    wanted = wanted.gather(1, torch.tensor(ids[20:])[:, None])[:, 0]
    assert found == pytest.approx(wanted.tolist(), abs=0.01)
    assert float(wanted.std()) > 0.1


@pytest.mark.parametrize("kind", ["f16", "bf16", "q8_0", "q5_1", "q5_0", "q4_1", "q4_0"])
def test_fewer_bits_stay_near(kind, tmp_path):
    llama_cpp = pytest.importorskip("llama_cpp", reason="llama-cpp-python is not installed")
    model, sizes, found = made(CONFIGS["qwen2"]), {}, {}
    for one in ("f32", kind):
        path = tmp_path / f"{one}.gguf"
        write_gguf(model, tokenizer(), path, one, About("tiny", False, None))
        llama = llama_cpp.Llama(str(path), n_ctx=64, logits_all=True, verbose=False)
        llama.eval(list(range(40)))
        found[one], sizes[one] = torch.tensor(llama.scores[:40]), path.stat().st_size
        llama.close()
    assert sizes[kind] < sizes["f32"]
    assert float((found[kind] - found["f32"]).std() / found["f32"].std()) < 0.2


def test_every_family_is_tried():
    assert {config.model_type for config in CONFIGS.values()} == set(FAMILIES)


@pytest.mark.parametrize(
    ("config", "said"),
    [
        (GPT2Config(n_layer=1, n_embd=64, n_head=2), "cannot write the family gpt2"),
        (MistralConfig(**SIZES, sliding_window=16), "attention that slides"),
        (Gemma3TextConfig(**SIZES, head_dim=32), "queries scaled otherwise"),
        (
            LlamaConfig(
                **SIZES,
                rope_parameters={"rope_type": "dynamic", "rope_theta": 1e4, "factor": 2.0},
            ),
            "positions of the kind dynamic",
        ),
    ],
)
def test_what_cannot_be_written_is_refused(config, said, tmp_path):
    with pytest.raises(UserError, match=said):
        write_gguf(
            made(config), tokenizer(), tmp_path / "m.gguf", "f32", About("tiny", False, None)
        )
