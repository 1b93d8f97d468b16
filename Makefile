# Bailee: `make demo` shows it, `make up` runs it, `make test` checks it.
# Needs Python 3.11 or newer with venv; everything else is installed into this directory.
.DEFAULT_GOAL := help
.PHONY: help environment demo up test test-long lint requirements bench

SHELL := /bin/sh
PY := .venv/bin/python
export PYTHONDONTWRITEBYTECODE ?= 1

help:
	@echo 'make demo          set up, start everything, play two trades through a reorg and a kill, compare the books'
	@echo 'make up            set up, start everything, stay until Ctrl-C (PORT, STATE_DIR)'
	@echo 'make test          set up, run every check and test'
	@echo 'make test-long     the slow suites: 1,000 random histories, kill matrices'
	@echo 'make lint          the checks that need no server'
	@echo 'make bench         play complete jobs over HTTP with concurrent pairs and print the speed (ARGS)'
	@echo 'make requirements  compile requirements.txt anew from requirements.in'

# The first Python that is new enough makes the environment.
environment:
	@for python in $(PYTHON) python3 python3.14 python3.13 python3.12 python3.11 python; do \
	  if command -v $$python >/dev/null 2>&1 && $$python -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then \
	    exec $$python config/devstack/environment.py; \
	  fi; \
	done; echo 'Bailee needs Python 3.11 or newer (set PYTHON=/path/to/python)' >&2; exit 1

demo: environment
	@exec $(PY) -m config.devstack demo

up: environment
	@exec $(PY) -m config.devstack up

lint: environment
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .
	$(PY) -m mypy .
	.venv/bin/lint-imports
	$(PY) -m config.devstack.production

test: lint
	@$(PY) -m config.devstack.browser
	$(PY) -m config.devstack servers -- sh -c '\
	  "$(PY)" manage.py makemigrations --check --dry-run && \
	  exec "$(PY)" -m pytest -n 2 --dist loadgroup -m "not long" $(ARGS)'

test-long: environment
	$(PY) -m config.devstack servers -- $(PY) -m pytest -n 2 --dist loadgroup -m long $(ARGS)

bench: environment
	@exec $(PY) -m bench $(ARGS)

requirements: environment
	@$(PY) -m config.devstack.requirements
