"""Does all of it work on this GPU, and how fast? ``make gpu``, or ``python scripts/check_gpu.py``.

One table, and the same as JSON (``--output``): attention by each kernel, packed rows against padded ones
in each number format, memory against the plan, training, stop, resume and answers with real models, tests
marked ``gpu``, steps beside a peer. A check that fails is a line of the table, and the exit code is 1.
Nothing is fetched from a network. ``--device cpu`` does the same on a tiny model in some minutes, to test
this script.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import gpu_checks
from tiny_model import embedded_tokenizer, save_tiny_model

CHECKS = {
    "machine": gpu_checks.machine,
    "attention": gpu_checks.attention,
    "packed against padded": gpu_checks.packed_against_padded,
    "runs": gpu_checks.runs,
    "memory": gpu_checks.memory,
    "tests": gpu_checks.tests,
    "speed": gpu_checks.speed,
}


def main() -> None:
    """Run all checks, or those that are named."""
    options = _options()
    import torch

    from qc_experiments.models.base import silence_transformers
    from qc_experiments.system.processes import quiet_libraries

    if options.device == "cuda" and not torch.cuda.is_available():
        print(
            "error: torch sees no GPU here; python scripts/check_gpu.py --device cpu tries the checks on "
            "a tiny model",
            file=sys.stderr,
        )
        sys.exit(2)
    quiet_libraries()
    silence_transformers()
    found: dict[str, gpu_checks.Rows] = {}
    with tempfile.TemporaryDirectory(prefix="qc_gpu_") as folder:
        work = Path(folder)
        tiny = save_tiny_model(work / "tiny", embedded_tokenizer())
        place = gpu_checks.Place(options.device, work, tiny, options.spider, options.peers)
        for name in options.only:
            started = time.perf_counter()
            rows = gpu_checks.tried(CHECKS[name], place)
            rows = {"error": rows} if isinstance(rows, str) else rows
            found[name] = {**rows, "seconds": time.perf_counter() - started}
            for key, value in found[name].items():
                print(f"| {name} | {key} | {_shown(value)} |", flush=True)
    options.output.parent.mkdir(parents=True, exist_ok=True)
    options.output.write_text(json.dumps(found, indent=2, default=str) + "\n")
    failed = [
        f"{name}: {key}"
        for name, rows in found.items()
        for key, value in rows.items()
        if str(value).startswith(gpu_checks.FAILED)
    ]
    print(f"\n{options.output}: {len(failed)} failed{': ' if failed else ''}{'; '.join(failed)}")
    sys.exit(1 if failed else 0)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", default="cuda", choices=["cuda", "cpu"])
    parser.add_argument("--output", type=Path, default=gpu_checks.ROOT / "build" / "gpu.json")
    parser.add_argument("--only", nargs="*", choices=list(CHECKS), default=list(CHECKS))
    default = os.environ.get("QC_SPIDER")
    parser.add_argument("--spider", type=Path, default=default and Path(default))
    parser.add_argument(
        "--peers", type=Path, help="environments of peers, as of `make bench-peers`"
    )
    return parser.parse_args()


def _shown(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


if __name__ == "__main__":
    main()
