"""Export runs in every type, judge each export again, and print what that costs: a table.

    python scripts/check_exports.py RUN... [--check 100] [--exports gguf:q8_0 ...]

``llama-cpp-python`` or llama.cpp's ``llama-server`` must be installed for the GGUF files.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

from qc_experiments.config.schema import PathsConfig
from qc_experiments.export.check import Check
from qc_experiments.export.export import Request, export
from qc_experiments.export.run_files import FinishedRun, read_run
from qc_experiments.models.base import silence_transformers
from qc_experiments.system.words import duration

EXPORTS = (
    *(("merged", "float32"), ("merged", "bfloat16")),
    *(("gguf", "f16"), ("gguf", "q8_0"), ("gguf", "q4_1"), ("gguf", "q4_0")),
)


def main() -> None:
    """Export each run in each way, into folders that are thrown away."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("runs", nargs="+", type=Path)
    parser.add_argument("--check", type=int, default=100, metavar="N")
    named = [f"{kind}:{weights}" for kind, weights in EXPORTS]
    parser.add_argument("--exports", nargs="+", default=named, choices=named)
    options = parser.parse_args()
    silence_transformers()
    print(
        "| run | export | size | run's own | export's | difference, p | other texts | mean, most |"
    )
    print("| --- | --- | --- | --- | --- | --- | --- | --- |")
    for folder in options.runs:
        run = read_run(folder)
        for kind, weights in (one.split(":") for one in options.exports):
            print(_line(run, kind, weights, options.check), flush=True)


def _line(run: FinishedRun, kind: str, weights: str, count: int) -> str:
    cache = Path(PathsConfig().cache).expanduser()
    allowed = {"trust_remote_code": False, "allow_pickle": False}
    started = time.perf_counter()
    with tempfile.TemporaryDirectory() as place:
        target = Path(place) / "export"
        check = export(run, Request(target, kind, weights, count, cache, None, allowed))
        files = [*target.glob("*.safetensors"), *target.glob("*.gguf")]
        size = sum(file.stat().st_size for file in files)
    assert check is not None
    config = run.config
    method = config.quant.mode.value if config.quant.mode.value != "none" else "LoRA"
    name = f"{config.model.name_or_path.rpartition(':')[2]}, {method}"
    took = duration(time.perf_counter() - started)
    return f"| {name} | {kind} {weights} ({took}) | {size / 1e6:.0f} MB | {_cells(check)} |"


def _cells(check: Check) -> str:
    table = check.table
    low, high = table.interval()
    difference, p = table.difference(), table.p_value()
    assert low is not None
    assert high is not None
    assert difference is not None
    assert p is not None
    return " | ".join(
        [
            f"{table.both + table.only_first} of {table.count}",
            f"{table.both + table.only_second} of {table.count}",
            f"{100 * difference:+.1f} points ({100 * low:+.1f} to {100 * high:+.1f}), p = {p:.2g}",
            str(check.different),
            f"{check.mean_distance:.4f}, {check.largest_distance:.3f}",
        ]
    )


if __name__ == "__main__":
    main()
