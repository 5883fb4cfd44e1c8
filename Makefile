# Each target sets up all it needs in .venv, from a package registry only.
PYTHON ?= python3
JOBS ?= 2

VENV := .venv
RUN := $(VENV)/bin/python
# another lock, another pyproject.toml or another place of this folder: another stamp
KEY := $(shell { pwd; cat requirements.lock pyproject.toml; } | cksum | tr ' ' '-')
STAMP := $(VENV)/.installed-$(KEY)
SUPPORTED := import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.NOTPARALLEL:
.PHONY: help reproduce test lint install lock clean

help: ## list what can be made
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

reproduce: $(STAMP) ## run the experiments on the generated corpus
	$(RUN) -m qaprune_lib.reproduce profiles/embedded.yml

test: lint ## lint, check types, run all tests (JOBS=2 processes)
	@echo "==> tests"
	OMP_NUM_THREADS=1 TOKENIZERS_PARALLELISM=false \
		$(RUN) -m pytest -n $(JOBS) --dist worksteal --durations 10

lint: $(STAMP) ## ruff (notebooks too) and mypy
	@echo "==> ruff"
	$(RUN) -m ruff check
	$(RUN) -m ruff format --check
	@echo "==> mypy"
	$(RUN) -m mypy qaprune_lib

install: $(STAMP) ## the environment in .venv, from requirements.lock

$(STAMP):
	@echo "==> [1/3] virtual environment in $(VENV)"
	@$(PYTHON) -c '$(SUPPORTED)' || \
		{ echo "qaprune needs Python 3.11 to 3.13; name one: make PYTHON=python3.11"; exit 1; }
	@$(RUN) -c 'import pip; $(SUPPORTED)' 2>/dev/null || $(PYTHON) -m venv --clear $(VENV)
	@echo "==> [2/3] packages of requirements.lock (the first time: minutes)"
	$(RUN) -m pip install --disable-pip-version-check -r requirements.lock
	@echo "==> [3/3] qaprune itself"
	$(RUN) -m pip install --disable-pip-version-check --no-deps -e .
	@rm -f $(VENV)/.installed-*
	@touch $@

lock: $(STAMP) ## write requirements.lock from what .venv holds now
	@{ echo '# Every package exactly as tested (make lock); pyproject.toml has the ranges.'; \
		$(RUN) -m pip freeze --exclude qaprune | sed 's/+[A-Za-z0-9.]*$$//' | LC_ALL=C sort -f; \
	} > requirements.lock.tmp
	mv requirements.lock.tmp requirements.lock

clean: ## remove caches and what was built; .venv, models and records stay
	rm -rf build dist _build book/_generated .hypothesis .mypy_cache .pytest_cache .ruff_cache \
		*.egg-info
	find . -path ./$(VENV) -prune -o -name __pycache__ -type d -exec rm -rf {} +
