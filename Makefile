# Every verb does its own set-up, from nothing but Python >= 3.11 and make.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: demo test check e2e-kafka bench clean

demo: .venv/.runtime
	@exec $(BIN)/energyws demo

test: .venv/.dev
	$(BIN)/pytest

check: .venv/.dev
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports

# The end-to-end tests once more, against a real Apache Kafka (needs a JDK 17 and Maven).
e2e-kafka: .venv/.dev
	$(BIN)/python tests/kafka_broker.py -- $(BIN)/pytest -m e2e

bench: .venv/.dev
	$(BIN)/python -m bench.idle
	$(BIN)/python -m bench.exactly_once
	$(BIN)/python -m bench.fanout

clean:
	rm -rf .venv build *.egg-info .mypy_cache .pytest_cache .ruff_cache .import_linter_cache .hypothesis

# A stamp, not the interpreter in it: that stays behind when making the environment fails.
.venv/.made:
	@$(PYTHON) -c 'import sys; sys.exit("energyws needs Python 3.11 or later, this is " + sys.version.split()[0] + ": name one with PYTHON=…") if sys.version_info < (3, 11) else None'
	$(PYTHON) -m venv --clear .venv
	@touch $@

.venv/.runtime: .venv/.made setup.cfg pyproject.toml
	$(BIN)/pip install --quiet --disable-pip-version-check --editable .
	@touch $@

.venv/.dev: .venv/.made setup.cfg pyproject.toml
	$(BIN)/pip install --quiet --disable-pip-version-check --editable '.[dev,bench]'
	@touch $@ .venv/.runtime
