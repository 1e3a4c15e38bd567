"""The Python API: each function does what its command does, from a fresh process."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from helpers.runs import TINY_TRAINING, run_folders

DEMO = Path(__file__).parents[1] / "qc_experiments" / "demo"
PREDICTIONS = """db_id,question,query,prediction
shop,How many customers?,SELECT count(*) FROM sqlite_master,SELECT count(*) FROM sqlite_master
shop,How many orders?,SELECT 1,SELECT 2
"""


def python(code: str, *arguments: str | Path) -> str:
    """What a fresh process prints last."""
    done = subprocess.run(
        [sys.executable, "-c", f"import sys\nimport qc_experiments as qc\n{code}"]
        + [str(one) for one in arguments],
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()[-1]


def test_train_compare_and_load_predictor(tiny_model, tmp_path):
    output = tmp_path / "outputs"
    settings = [
        "model=hub",
        f"model.name_or_path={tiny_model}",
        "tracking=none",
        f"paths.output={output}",
        *TINY_TRAINING,
    ]
    said = python("import json\nprint(json.dumps(qc.train(sys.argv[1:])))", *settings)
    [folder] = run_folders(output)
    result = json.loads((folder / "result.json").read_text())
    assert json.loads(said) == result
    said = python("[run] = qc.compare(sys.argv[1]).runs\nprint(run.folder)", output)
    assert Path(said) == folder
    asked = """
predictor = qc.load_predictor("latest", outputs=sys.argv[1])
two = predictor.predict(["Who?", "What?"], database=sys.argv[2])
[one] = predictor.predicted("Who?", database=sys.argv[2])
[held] = predictor.predict("Who?", database=sys.argv[2], not_below=1.0)
print(len(two), 0 <= one.confidence < 1, held == "", bool(one.sql))"""
    shop = DEMO / "databases" / "shop" / "shop.sqlite"
    assert python(asked, output, shop) == "2 True True True"


def test_evaluate(tmp_path):
    (tmp_path / "predictions.csv").write_text(PREDICTIONS)
    code = "report = qc.evaluate(*sys.argv[1:], timeout=3.0, processes=1)\nprint(len(report))"
    output = tmp_path / "judged"
    said = python(code, tmp_path / "predictions.csv", DEMO / "databases", output)
    report = json.loads((output / "report.json").read_text())
    assert int(said) == len(report)
    assert report["figures"]["execution_accuracy"]["hits"] == 1


@pytest.mark.parametrize(
    ("call", "said"),
    [
        ("qc.train(['lora.rr=4'])", "did you mean lora.r?"),
        ("qc.train(['-m', 'lora.r=4,8'])", "flags belong to qc train"),
        ("qc.train(['data=csv', 'data.train=absent.csv'])", "no such file"),
        ("qc.train('lora.rr=4')", "did you mean lora.r?"),
        (
            "qc.evaluate('absent.csv', 'absent', 'out', metrics='a.b')",
            "evaluation.metrics=a.b: cannot",
        ),
        ("qc.evaluate('absent.csv', 'absent', 'out')", "absent"),
        ("qc.evaluate('absent.csv', 'absent', 'out', fuz=2)", "did you mean fuzz?"),
        ("qc.load_predictor('absent')", "run_folder absent"),
        ("qc.compare('absent')", "absent"),
        ("qc.compare()", "name at least one folder"),
    ],
)
def test_a_mistake_of_the_users_is_raised(call, said):
    code = f"try:\n    {call}\nexcept qc.UserError as error:\n    print(str(error))"
    assert said in python(code)


def test_importing_the_package_loads_nothing():
    assert python("print(sorted({'torch', 'hydra', 'transformers'} & set(sys.modules)))") == "[]"
