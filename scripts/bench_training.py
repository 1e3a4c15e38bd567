"""Time a training step: ``python scripts/bench_training.py --spider DIR [--rounds 3] [--peers DIR]``.

Spider's training rows up to ``data.max_length``, the embedded model or another (``--shape``), LoRA r=16
on all linear layers, no dropout. Every method takes the same rows in the same effective batches, starts
from the same base weights, and runs in a process of its own, in turns; loading is left out of the time.
These are the methods:

    shared_schema   our collator: each schema's tokens once for its questions in a step
    seq2seq         our seq2seq collator: padded micro-batches
    plain           a loop of PEFT and torch alone: padded micro-batches, logits at labels only
    litgpt, llama_factory, trl   by their own commands (see bench_peers.py); with ``--peers``

With ``--types float32 bfloat16`` each runs in both, in bfloat16 as its own makers compute in it; ours in
its fastest type is compared with each. On a GPU (``--device cuda --shape qwen2-1.5b`` or
``llama-8b-4bit``, with random weights) all run in bfloat16 and the peer is TRL with packing;
``--micro-batch`` gives each side its best size.

With ``--groups`` methods are timed on steps planned with so many questions a schema. The share of the
peak is the floating-point rate of the step over that of the best product in its type measured in the same
process. With ``--record`` each run is kept in a file, so that rounds can be made at different times; the
table is of all that the file holds.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

from bench_peers import PEERS, Job, install, timed
from bench_step import PACKAGED, model_folder, model_shape, planned_batches

SHAPES = ("embedded", PACKAGED, "tiny", "qwen2-1.5b", "llama-8b-4bit")
TYPES = ("float32", "bfloat16")
OURS = ("shared_schema", "seq2seq", "plain")
STEP = Path(__file__).with_name("bench_step.py")


def main() -> None:
    """Run the methods in turns and print a table."""
    options = _options()
    # On a GPU, TRL with packing; the settings of the other two are those that run on a CPU.
    peers = () if options.peers is None else PEERS if options.device == "cpu" else ("trl",)
    options.packing |= options.device == "cuda"
    methods = options.methods or [*OURS, *peers]
    if options.peers:
        for peer in peers:
            install(peer, options.peers.absolute())
    groups = options.groups or [options.max_group]
    types = ["bfloat16"] if options.device == "cuda" else options.types
    jobs = [(method, group, kind) for group in groups for kind in types for method in methods]
    found = _recorded(options.record)
    for number in range(options.rounds):
        for job in jobs:
            result = _run(options, *job)
            found.setdefault(job, []).append(result)
            print(f"round {number + 1}: {_line(job, result)}", flush=True)
            if options.record:
                with options.record.open("a") as file:
                    print(json.dumps([*job, result]), file=file)
    print()
    for job, results in sorted(found.items(), key=lambda item: item[0][1]):
        middle = {key: statistics.median(r[key] for r in results) for key in results[0]}
        line = f"{_line(job, middle)}  {len(results)} runs"
        ours = _fastest(found, job[1])
        if ours is not None and job[0] != "shared_schema":
            ratios = [
                a["examples_per_second"] / b["examples_per_second"]
                for a, b in zip(found[ours], results, strict=False)
            ]
            line += (
                f"; shared_schema in {ours[2]} is {statistics.median(ratios):.2f} x as fast "
                f"({min(ratios):.2f} to {max(ratios):.2f})"
            )
        print(line)


Timed = tuple[str, int, str]
"""A method, its questions a schema, and the type of its weights."""


def _fastest(found: dict[Timed, list[dict[str, Any]]], group: int) -> Timed | None:
    """Our collator in the type in which it is fastest."""
    ours = [job for job in found if job[:2] == ("shared_schema", group)]
    speed = {
        job: statistics.median(one["examples_per_second"] for one in found[job]) for job in ours
    }
    return max(ours, key=lambda job: speed[job], default=None)


def _recorded(record: Path | None) -> dict[Timed, list[dict[str, Any]]]:
    found: dict[Timed, list[dict[str, Any]]] = {}
    if record and record.exists():
        for line in record.read_text().splitlines():
            *job, result = json.loads(line)
            found.setdefault((job[0], job[1], job[2]), []).append(result)
    return found


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    default = os.environ.get("QC_SPIDER", "spider")
    parser.add_argument("--spider", type=Path, default=Path(default), help="folder with train.csv")
    parser.add_argument("--methods", nargs="*", choices=[*OURS, *PEERS])
    parser.add_argument(
        "--peers", type=Path, help="folder of the peers' environments; made if missing"
    )
    parser.add_argument(
        "--groups", nargs="*", type=int, default=[], help="questions a schema and step"
    )
    parser.add_argument("--record", type=Path, help="file that keeps each run")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=1, help="timed optimizer steps")
    parser.add_argument("--rows-per-step", type=int, default=64)
    parser.add_argument("--micro-batch", type=int, default=4, help="rows of a padded micro-batch")
    parser.add_argument("--max-group", type=int, default=8)
    parser.add_argument("--max-tokens", type=int, help="of a pass; 1024 on a CPU, 8192 on a GPU")
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    parser.add_argument("--types", nargs="*", choices=TYPES, default=["float32"])
    parser.add_argument("--shape", default="embedded", choices=SHAPES)
    parser.add_argument(
        "--packing", action="store_true", help="TRL packs its rows (on a GPU always)"
    )
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args()


def _run(options: argparse.Namespace, method: str, group: int, kind: str) -> dict[str, Any]:
    job = {**vars(options), "method": method, "max_group": group, "type": kind}
    if method in PEERS:
        return _peer(argparse.Namespace(**job))
    arguments = [sys.executable, str(STEP), json.dumps(job, default=str)]
    done = subprocess.run(arguments, stdout=subprocess.PIPE, text=True, check=True)
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return result


def _peer(options: argparse.Namespace) -> dict[str, Any]:
    from transformers import AutoTokenizer

    from qc_experiments.config.schema import DataConfig

    folder = model_folder(options)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    packed = [row for batch in planned_batches(options, folder) for row in batch]
    rows = [
        (
            tokenizer.decode(row.prompt_ids),
            tokenizer.decode(row.completion_ids, skip_special_tokens=True),
        )
        for row in packed
    ]
    job = Job(
        _peers_model(options, folder),
        rows,
        options.rows_per_step,
        options.micro_batch,
        DataConfig().max_length,
        options.threads,
        options.seed,
        "Qwen2.5-Coder-0.5B-Instruct" if options.shape == PACKAGED else "SmolLM2-135M-Instruct",
        bfloat16=options.type == "bfloat16",
        on_gpu=options.device == "cuda",
        in_4_bits=options.shape.endswith("4bit"),
        packing=options.packing,
    )
    return {**timed(options.method, options.peers.absolute(), job), "tokens": sum(map(len, packed))}


def _line(job: Timed, result: dict[str, Any]) -> str:
    away = f"  gradients {result['difference']:.0e} from padded" if "difference" in result else ""
    share = f"{100 * result['peak_share']:3.0f} % of the peak" if "peak_share" in result else ""
    return (
        f"{job[1]:4} a schema  {job[0]:<14} {job[2]:<8} {result['examples_per_second']:6.3f} examples/s  "
        f"{result['tokens']:7.0f} tokens  {result['tokens'] / result['seconds']:5.0f} tokens/s  "
        f"{result['peak_bytes'] / 1e9:5.2f} GB  {share:16}{away}"
    )


def _peers_model(options: argparse.Namespace, embedded: Path) -> Path:
    """A folder from which a peer loads the model that is trained."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    if options.shape in ("embedded", PACKAGED):
        return embedded
    place: Path = options.peers.absolute() / "shapes" / options.shape
    if not place.exists():
        dtype = getattr(torch, options.type)
        torch.manual_seed(options.seed)
        AutoModelForCausalLM.from_config(model_shape(options.shape), dtype=dtype).save_pretrained(
            place
        )
        AutoTokenizer.from_pretrained(embedded).save_pretrained(place)
    return place


if __name__ == "__main__":
    main()
