# Each target sets up all it needs in .venv, from a package registry only.
PYTHON ?= python3
JOBS ?= 2
PROFILE ?= embedded
CHROMIUM ?= chromium

VENV := .venv
RUN := $(VENV)/bin/python
# another lock, another pyproject.toml or another place of this folder: another stamp
KEY := $(shell { pwd; cat requirements.lock pyproject.toml; } | cksum | tr ' ' '-')
STAMP := $(VENV)/.installed-$(KEY)
BOOK := .venv-book
BOOK_RUN := $(BOOK)/bin/python
BOOK_KEY := $(shell { pwd; cat requirements-book.lock; } | cksum | tr ' ' '-')
BOOK_STAMP := $(BOOK)/.installed-$(BOOK_KEY)
SUPPORTED := import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.NOTPARALLEL:
.PHONY: help reproduce book pdf links status test test-quick bench coverage test-slurm lint install lock clean

help: ## list what can be made
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

reproduce: $(STAMP) ## run the experiments on the generated corpus, then the book (PROFILE=embedded-full: all)
	OMP_NUM_THREADS=1 $(RUN) -m study side-by-side profiles/$(PROFILE).yml --jobs $(JOBS)
	$(RUN) -m study summary embedded
	$(RUN) -m study book

book: $(BOOK_STAMP) ## the book alone, from the records in results/, without torch
	$(BOOK_RUN) -m study book

ONE := _build/pdf/_build/singlehtml
PRINT := --headless --no-sandbox --disable-gpu --disable-background-networking \
	--virtual-time-budget=120000 --no-pdf-header-footer

pdf: book ## the book as one file, _build/html/qaprune.pdf, by Chromium (CHROMIUM=its command)
	$(BOOK_RUN) -c 'from jupyter_book.cli.main import main; main()' build . \
		--builder custom --custom-builder singlehtml --path-output _build/pdf
	cp $(ONE)/book/intro.html $(ONE)/all.html # its links start there
	$(CHROMIUM) $(PRINT) --print-to-pdf=_build/html/qaprune.pdf "file://$(CURDIR)/$(ONE)/all.html"

links: book ## follow the book's links to other hosts
	$(BOOK_RUN) -c 'from jupyter_book.cli.main import main; main()' build . \
		--builder linkcheck --path-output _build/links

status: $(STAMP) ## which runs of the embedded profile there are, and which lack
	$(RUN) -m study status profiles/$(PROFILE).yml

test: lint ## lint, check types, run all tests (JOBS=2 processes)
	@echo "==> tests"
	OMP_NUM_THREADS=1 TOKENIZERS_PARALLELISM=false \
		$(RUN) -m pytest -n $(JOBS) --dist worksteal --durations 10

QUICK := data models gates evaluation training scorers pruning

test-quick: $(STAMP) ## tests of the library alone: no slow ones, few examples of each property
	@echo "==> left out: lint, slow tests, doctests, the study, the book; 5 examples of a property"
	OMP_NUM_THREADS=1 TOKENIZERS_PARALLELISM=false HYPOTHESIS_PROFILE=quick \
		$(RUN) -m pytest -n $(JOBS) --dist worksteal -q -m 'not slow and not gpu' \
		$(addprefix tests/,$(QUICK))

bench: $(STAMP) ## time every fast path against what it replaces (ONLY=name: one of benchmarks/)
	OMP_NUM_THREADS=1 TOKENIZERS_PARALLELISM=false $(RUN) -m benchmarks $(ONLY)

coverage: $(STAMP) ## run all tests, then say which lines none has reached
	OMP_NUM_THREADS=1 TOKENIZERS_PARALLELISM=false \
		$(RUN) -m pytest -n $(JOBS) --dist worksteal --cov --cov-report term

test-slurm: $(STAMP) ## install and start Slurm here (root, Debian), run a small sweep through it
	$(RUN) -m pip install -q --disable-pip-version-check 'snakemake-executor-plugin-slurm>=2.8,<3'
	tests/slurm/run.sh $(abspath $(RUN)) -q -s

lint: $(STAMP) ## ruff (notebooks too) and mypy
	@echo "==> ruff"
	$(RUN) -m ruff check
	$(RUN) -m ruff format --check
	@echo "==> mypy"
	$(RUN) -m mypy qaprune_lib study

install: $(STAMP) ## the environment in .venv, from requirements.lock

$(STAMP):
	@echo "==> [1/3] virtual environment in $(VENV)"
	@$(PYTHON) -c '$(SUPPORTED)' || \
		{ echo "qaprune needs Python 3.11 to 3.13; name one: make PYTHON=python3.11"; exit 1; }
	@$(RUN) -c 'import pip; $(SUPPORTED)' 2>/dev/null || $(PYTHON) -m venv --clear $(VENV)
	@echo "==> [2/3] packages of requirements.lock (the first time: minutes)"
	$(RUN) -m pip install -q --disable-pip-version-check -r requirements.lock
	@echo "==> [3/3] qaprune itself"
	$(RUN) -m pip install -q --disable-pip-version-check --no-deps -e .
	@rm -f $(VENV)/.installed-*
	@touch $@

$(BOOK_STAMP):
	@echo "==> [1/2] virtual environment in $(BOOK)"
	@$(PYTHON) -c '$(SUPPORTED)' || \
		{ echo "qaprune needs Python 3.11 to 3.13; name one: make PYTHON=python3.11"; exit 1; }
	@$(BOOK_RUN) -c 'import pip; $(SUPPORTED)' 2>/dev/null || $(PYTHON) -m venv --clear $(BOOK)
	@echo "==> [2/2] packages of requirements-book.lock (the first time: about a minute)"
	$(BOOK_RUN) -m pip install -q --disable-pip-version-check --no-deps -r requirements-book.lock
	@rm -f $(BOOK)/.installed-*
	@touch $@

lock: $(STAMP) ## write requirements.lock from what .venv holds now
	@{ echo '# Every package exactly as tested (make lock); pyproject.toml has the ranges.'; \
		$(RUN) -m pip freeze --exclude qaprune | sed 's/+[A-Za-z0-9.]*$$//' | LC_ALL=C sort -f; \
	} > requirements.lock.tmp
	mv requirements.lock.tmp requirements.lock

clean: ## remove caches and what was built; .venv, models and records stay
	rm -rf build dist _build book/_generated .coverage* .hypothesis .mypy_cache .pytest_cache \
		.ruff_cache *.egg-info
	find . -path ./$(VENV) -prune -o -name __pycache__ -type d -exec rm -rf {} +
