# make demo: everything set up, then the main job on this machine. make fast: the tests of the inner loop.
# make test: everything set up, all tests but those of make test-long. CONTRIBUTING.md says what is in which.
# Needs Python 3.10 or later, a package registry, and for the demo Python 3.11 (uv finds or brings it).
VENV := .venv
BIN := $(VENV)/bin
PYTEST :=  # more options for pytest: make fast PYTEST=--random-order
# One worker more than the two cores that the limits are for: at any time one waits, for a timer or the cluster.
WORKERS := 3
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.PHONY: help demo fast test test-long test-pythons test-isa test-gpu test-legacy lint check docs pictures bench environments slurmlab slurmlab-down clean

help:  ## these targets
	@grep -hE '^[a-z-]+:.*##' Makefile | sed -E 's/:[^#]*## /\t/' | expand -t 16

$(VENV)/.installed: pyproject.toml tests/requirements.txt tools/bootstrap
	tools/bootstrap $(VENV)

environments: $(VENV)/.installed  ## build and verify the miniature's two environments
	$(BIN)/ddqjobs env build mini-new mini-legacy

demo: environments  ## the main job: four phases of the miniature, really trained and tested, then the report
	$(BIN)/ddqjobs submit mini --wait
	$(BIN)/ddqjobs report mini --recompute
	$(BIN)/ddqjobs report mini --format html --out results/mini/report/mini.html

fast: $(VENV)/.installed  ## the tests of the inner loop: no training, no cluster, no environment
	$(BIN)/pytest tests/unit -m 'not slow and not long' -n $(WORKERS) --dist worksteal -q $(PYTEST)

test: environments  ## all that guards a promise, with real trainings, a real Slurm and real kills
	$(BIN)/coverage erase
	$(BIN)/coverage run -m pytest -m 'not long' -n $(WORKERS) --dist loadscope --no-loadscope-reorder --durations=25 $(PYTEST)
	$(BIN)/python tools/coverage_gate.py

test-long: environments  ## storms, corpora, all models; by hand
	$(BIN)/pytest -m long -n $(WORKERS) --dist loadscope --no-loadscope-reorder --durations=0 $(PYTEST)

test-pythons: $(VENV)/.installed  ## the wheel and the fast tests with each of Python 3.10 to 3.13 that is here
	$(BIN)/python tools/test_pythons.py $(PYTEST)

test-isa: environments  ## tests that compare bits, with each instruction set of this processor
	$(BIN)/python -m tests.isa $(GROUPS)

# A Python with a CUDA build of torch: of the environment modern-lite, if it is built.
GPU_PYTHON = $(firstword $(wildcard .environments/modern-lite-*/bin/python) $(BIN)/python)

test-gpu: $(VENV)/.installed  ## tests that need a GPU; GPU_PYTHON names a Python with a CUDA build of torch
	$(BIN)/python -m tests.gpu $(GPU_PYTHON)

test-legacy: $(VENV)/.installed  ## the real legacy stack, built and trained: torch 1.9, mmcv 1.4.7; needs a Python 3.8
	$(BIN)/pytest tests/legacy -q --timeout=3600 --durations=0 $(PYTEST)

lint: $(VENV)/.installed  ## ruff, mypy, the import contracts, Python 3.8 for task code, spelling, shell, ends
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache
	$(BIN)/vermin -q --no-tips --violations -t=3.8- ddqjobs/__init__.py ddqjobs/base/__init__.py ddqjobs/base/version.py ddqjobs/detect
	SKIP=ruff-check,ruff-format,mypy $(BIN)/pre-commit run --all-files --show-diff-on-failure

check: lint demo test  ## everything that CI runs

$(VENV)/.docs: $(VENV)/.installed tests/docs-requirements.txt
	$(BIN)/pip install --quiet --requirement tests/docs-requirements.txt
	touch $@

docs: $(VENV)/.docs  ## the documentation as a site in build/docs; after the first time without network
	$(BIN)/python tools/reference.py
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

pictures: $(VENV)/.installed  ## the page of a matrix as a browser shows it, for the README (node, npm, Chromium)
	$(BIN)/python tests/browser/pictures.py docs/pictures

bench: $(VENV)/.installed  ## measurements, as a table with ratios to a bare reference
	$(BIN)/python -m tests.bench
	$(BIN)/python -m tests.bench.login
	$(BIN)/python -m tests.bench.slurm
	$(BIN)/python -m tests.bench.environments

slurmlab:  ## a real Slurm cluster on this machine to play with (root; Debian or Ubuntu); docs/reference/slurm.md
	tests/labs/slurm/up.sh

slurmlab-down:  ## stop it and forget it
	tests/labs/slurm/down.sh --wipe

clean:  ## forget the virtual environment and the built environments; results stay
	rm -rf $(VENV) .environments tests/legacy/project/.environments
