# Everything a developer types. `make demo` and `make test` set up what they need in .venv.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
CODEX_VERSION := 0.169.0

.PHONY: help demo test check lint types format integration-test bench clean
help:
	@echo "make demo              watch a small project being built by a scripted agent"
	@echo "make test              the tests: no network, no keys"
	@echo "make check             lint, types and tests"
	@echo "make integration-test  the same with the real codex, against a scripted model"
	@echo "make bench             measure against bare git; writes docs/benchmarks.md"

$(VENV)/installed: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check --editable .
	@touch $@

# --group needs pip 25.1
$(VENV)/developing: $(VENV)/installed pyproject.toml
	$(BIN)/pip install --quiet --disable-pip-version-check --upgrade 'pip>=25.1'
	$(BIN)/pip install --quiet --disable-pip-version-check --group dev
	@touch $@

demo: $(VENV)/installed
	@$(BIN)/scriptorium demo

test: $(VENV)/developing
	$(BIN)/pytest -n auto --ignore=tests/integration --ignore=tests/bench

lint: $(VENV)/developing
	$(BIN)/ruff check
	$(BIN)/ruff format --check

types: $(VENV)/developing
	$(BIN)/mypy

format: $(VENV)/developing
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

check: lint types test

# the real program, from npm; PATH is left alone where it is there already
integration-test: $(VENV)/developing
	@command -v codex >/dev/null || test -x $(VENV)/npm/node_modules/.bin/codex \
		|| npm install --loglevel=error --no-fund --no-audit --prefix $(VENV)/npm @openai/codex@$(CODEX_VERSION)
	PATH="$$PATH:$(CURDIR)/$(VENV)/npm/node_modules/.bin" $(BIN)/pytest -n 2 tests/integration

bench: $(VENV)/developing
	$(BIN)/python -m tests.bench

clean:
	rm -rf $(VENV) build dist .pytest_cache .mypy_cache .ruff_cache
