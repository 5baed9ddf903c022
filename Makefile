# Everything a developer types. `make demo` and `make test` set up what they need in .venv.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# the dependency group that is installed to develop with
GROUP ?= dev
AGENTS := $(VENV)/agents
WITH_AGENTS = PATH="$(CURDIR)/$(AGENTS)/node_modules/.bin:$$PATH"

.PHONY: help demo test quick check lint types format crash-test stress-test soak figures \
	integration-test integration-test-offline agents-table bench clean
help:
	@echo "make demo              watch a small project being built by a scripted agent"
	@echo "make test              the tests: no network, no keys"
	@echo "make quick             only the tests that are fast, for a first answer"
	@echo "make check             lint, types and tests"
	@echo "make integration-test  with the real codex, claude and opencode, against a scripted model"
	@echo "make crash-test        kill it and fail its calls at points that SEED chooses, or CRASH=all for every point"
	@echo "make stress-test       a model against random interleavings, and everything at once, or STRESS=<minutes> of it"
	@echo "make soak              a thousand tickets with random faults, or TICKETS=100"
	@echo "make figures           all three without sampling, and the fuzz tests; writes the tables of docs/reliability.md"
	@echo "make bench             measure against bare git; writes docs/benchmarks.md"

$(VENV)/installed: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check --editable .
	@touch $@

# --group needs pip 25.1
$(VENV)/developing: $(VENV)/installed pyproject.toml
	$(BIN)/pip install --quiet --disable-pip-version-check --upgrade 'pip>=25.1'
	$(BIN)/pip install --quiet --disable-pip-version-check --group $(GROUP)
	@touch $@

demo: $(VENV)/installed
	@$(BIN)/scriptorium demo

TESTS = -n auto --ignore=tests/integration --ignore=tests/bench --ignore=tests/crash --ignore=tests/stress

test: $(VENV)/developing
	$(BIN)/pytest $(TESTS)

quick: $(VENV)/developing
	$(BIN)/pytest $(TESTS) -m 'not slow'

lint: $(VENV)/developing
	$(BIN)/ruff check
	$(BIN)/ruff format --check

types: $(VENV)/developing
	$(BIN)/mypy

format: $(VENV)/developing
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

check: lint types test

# CRASH=all for everything. One test after the other, as each keeps all cores busy by itself; its figures are printed.
# Those of real wants wait.
crash-test: $(VENV)/developing
	$(BIN)/pytest -s tests/crash --ignore=tests/crash/test_starved.py
	$(BIN)/pytest -n auto tests/crash/test_starved.py

# STRESS=<minutes> for everything
stress-test: $(VENV)/developing
	$(BIN)/pytest -s tests/stress

# TICKETS=100 for fewer
soak: $(VENV)/developing
	$(BIN)/python -m tests.stress.soak $(TICKETS)

# docs/reliability.md: what all of these have counted
figures: export FIGURES = write
figures: export CRASH = all
figures: export STRESS = 5
figures: crash-test stress-test soak
	$(BIN)/pytest -n 0 tests/fuzz tests/agents/tools/test_fuzz_endpoint.py tests/neighbours/test_figures.py

# the real agent programs and husky, from npm, in the versions that this file names
$(AGENTS)/installed: tests/integration/package.json
	mkdir -p $(AGENTS)
	cp $< $(AGENTS)/
	npm install --loglevel=error --no-fund --no-audit --no-package-lock --prefix $(AGENTS)
	@touch $@

integration-test: $(VENV)/developing $(AGENTS)/installed
	$(WITH_AGENTS) $(BIN)/pytest -n auto tests/integration

# the same where there is no network but loopback: nothing may reach out
integration-test-offline: $(VENV)/developing $(AGENTS)/installed
	$(WITH_AGENTS) $(BIN)/python -m tests.integration.offline \
		$(BIN)/pytest -n auto tests/integration --agents-table=check

# docs/agents.md: what those tests have shown
agents-table: $(VENV)/developing $(AGENTS)/installed
	$(WITH_AGENTS) $(BIN)/pytest -n auto tests/integration --agents-table=write

bench: $(VENV)/developing
	$(BIN)/python -m tests.bench

clean:
	rm -rf $(VENV) build dist .pytest_cache .mypy_cache .ruff_cache
