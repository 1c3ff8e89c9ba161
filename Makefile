# Everything a newcomer needs; it asks for a POSIX shell, make, git and some Python 3 to begin with.
# `make setup PYTHON=python3.12` chooses the interpreter of .venv.
.PHONY: help setup setup-export study test canary test-export test-kaggle check clean
.NOTPARALLEL:

# Any interpreter that starts will do here: .ci/setup.py looks for a fitting one itself.
BOOT = for p in $(PYTHON) python3 python3.11 python3.12 python3.13 python; do \
	if $$p -c 'import sys; sys.exit(sys.version_info < (3, 7))' >/dev/null 2>&1; then \
		PYTHON='$(PYTHON)' exec $$p .ci/setup.py $(SETUP_OPTIONS); fi; done; \
	echo 'No Python was found. Install Python 3.11, 3.12 or 3.13: python.org, your package manager or pyenv.' >&2; \
	exit 1

help: ## this list
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/make \1|\2/p' Makefile | awk -F'|' '{ printf "  %-17s %s\n", $$1, $$2 }'

setup: ## create or refresh .venv; an instant when there is nothing to do
	@$(BOOT)
	@echo 'In a new terminal: . .venv/bin/activate'

setup-export: SETUP_OPTIONS = --export
setup-export: ## .venv-export, whose `python -m kaggle_kit export RUN --out FOLDER --quantise gptq` quantises
	@$(BOOT)

study: setup ## ask the study's question in small, and write its report: five minutes
	@.venv/bin/python -m kaggle_kit study run first_look

# The tools come from .venv where it has them, else from a small .venv-check without torch.
check: SETUP_OPTIONS = --light
check: ## the static gates alone: no torch, under a minute
	@[ -x .venv/bin/lint-imports ] || ($(BOOT))
	@bin=.venv/bin; [ -x $$bin/lint-imports ] || bin=.venv-check/bin; set -ex; \
	$$bin/ruff check .; \
	$$bin/ruff format --check .; \
	$$bin/lint-imports --no-logo; \
	$$bin/mypy; \
	$$bin/python -m pytest -q tests/static

# One torch thread for each of the processes that share the tests; a file's tests stay together, and long
# files do not wait for the end, where a process would be alone with them.
WORKERS ?= 2
PYTEST = OMP_NUM_THREADS=1 .venv/bin/python -m pytest -n $(WORKERS) --dist loadfile --no-loadscope-reorder

# Whole directories of what reads, trains and scores, and what a kernel does there.
KAGGLE_TESTS = tests/core tests/data tests/heads tests/batches tests/models tests/training tests/evaluation \
	tests/analysis tests/kaggle/test_build.py tests/kaggle/test_offline.py
KAGGLE_PAGE = notebooks/2_single_task/s1_single_task.ipynb

# `make check` has run the static tests, and every page runs here once: the canary runs them all again.
test: setup check ## the whole suite: static gates, unit and property tests, every page
	$(PYTEST) --durations=15 -m 'not canary' --ignore=tests/static
	$(PYTEST) -q --nbval-lax --nbval-current-env notebooks

canary: setup ## every page and command on planted words, and a search for them
	$(PYTEST) tests/cli/test_canary.py

test-export: setup-export ## real quantisation of tiny models, in an environment of its own
	OMP_NUM_THREADS=1 .venv-export/bin/python -m pytest -q tests/export/test_quantised.py

test-kaggle: SETUP_OPTIONS = --kaggle
test-kaggle: ## what reads, trains and scores, kernels and one page, on the versions of Kaggle's image
	@$(BOOT)
	OMP_NUM_THREADS=1 .venv-kaggle/bin/python -m pytest -n $(WORKERS) --dist loadfile -q $(KAGGLE_TESTS)
	OMP_NUM_THREADS=1 .venv-kaggle/bin/python -m pytest -q --nbval-lax --nbval-current-env $(KAGGLE_PAGE)

clean: ## remove the environments and caches, never the runs
	rm -rf .venv .venv-check .venv-kaggle .venv-export .pytest_cache .ruff_cache .hypothesis .import_linter_cache kaggle_kit.egg-info
