# Every verb does its own set-up, from nothing but make and Python 3.11 to 3.14.
PYTHON ?= python3
BIN := .venv/bin
# Two files of tests side by side: most of the time a test waits.
AT_ONCE := -n 2 --dist loadfile

.PHONY: demo test test-pythons check check-deploy docs e2e-kafka bench autobahn dist clean

demo: .venv/.runtime
	@exec $(BIN)/energyws demo

test: .venv/.dev
	$(BIN)/pytest $(AT_ONCE)

# The fast tests, and the demo once, with the other Pythons that this machine has.
test-pythons: .venv/.dev
	$(BIN)/python -m tests.pythons

check: .venv/.dev
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports

# The files in config/, by the tools that will read them (needs Debian's prometheus and systemd).
check-deploy: .venv/.deploy
	$(BIN)/pytest -m deploy tests/deploy

# The site of the documentation, into build/docs/site: fails for a dead link.
docs: .venv/.docs
	$(BIN)/python -m tests.docs.site

# The end-to-end tests once more, against a real Apache Kafka (needs a JDK 17 and Maven).
e2e-kafka: .venv/.dev
	$(BIN)/python -m energyws.testing.kafka_broker -- $(BIN)/pytest $(AT_ONCE) -m "e2e and not edge"

bench: .venv/.dev
	$(BIN)/python -m bench.idle
	$(BIN)/python -m bench.exactly_once
	$(BIN)/python -m bench.fanout

# Autobahn's test suite, the part that takes less than a minute (needs Python 2.7, as of pyenv).
autobahn: .venv/.dev
	$(BIN)/python -m bench.autobahn --if-possible ws wss limits

# What a maintainer uploads, see docs/releasing.md.
dist: .venv/.dev
	rm -rf dist
	$(BIN)/python -m build --outdir dist .
	$(BIN)/python -m build --outdir dist client
	$(BIN)/twine check --strict dist/*

clean:
	rm -rf .venv .node build dist *.egg-info .mypy_cache .pytest_cache .ruff_cache .import_linter_cache .hypothesis

# A stamp, not the interpreter in it: that stays behind when making the environment fails.
.venv/.made:
	@$(PYTHON) -c 'import sys; sys.exit(None if (3, 11) <= sys.version_info[:2] < (3, 15) else "energyws needs Python 3.11 to 3.14 (there are no wheels of its dependencies for later ones yet), this is " + sys.version.split()[0] + ": name one with PYTHON=python3.13")'
	$(PYTHON) -m venv --clear .venv
	@# To look through the index, pip 23 takes seconds longer; where there is no newer one, it will do.
	-@$(BIN)/pip install --quiet --disable-pip-version-check --no-compile 'pip>=25'
	@touch $@

# setuptools warns at each editable installation, of what this tree does not have.
.venv/.runtime: .venv/.made setup.cfg setup.py pyproject.toml
	PYTHONWARNINGS=ignore $(BIN)/pip install --quiet --disable-pip-version-check --editable .
	@touch $@

.venv/.dev: .venv/.made setup.cfg setup.py pyproject.toml
	PYTHONWARNINGS=ignore $(BIN)/pip install --quiet --disable-pip-version-check --editable '.[dev,bench]'
	@touch $@ .venv/.runtime

.venv/.docs: .venv/.dev
	$(BIN)/pip install --quiet --disable-pip-version-check --editable '.[docs]'
	@touch $@

# kustomize has no package: built by the Go that is one on PyPI.
.venv/.deploy: .venv/.dev
	$(BIN)/pip install --quiet --disable-pip-version-check --editable '.[deploy]'
	GOBIN=$(CURDIR)/$(BIN) $(BIN)/go install sigs.k8s.io/kustomize/kustomize/v5@v5.7.1
	@touch $@
