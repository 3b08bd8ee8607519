# Everything runs in .venv, which the first target that needs it makes; a changed pyproject.toml installs again.

# The first Python on PATH that is new enough; `make PYTHON=...` chooses another.
PYTHON ?= $(shell for p in python3 python3.14 python3.13 python3.12 python3.11; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done)
JOBS ?= 2
OUT ?= out

BIN := .venv/bin
INSTALLED := .venv/.installed
PACKAGES := bench boards cli compiler golden host rtl sim train

.PHONY: help install demo test test-slow test-train lint types format clean

help:
	@echo "make demo       the main job on real images: check, simulate, Verilog, bitstream; results in $(OUT)/demo"
	@echo "make test       lint, types and the quick tests"
	@echo "make test-slow  the long tests, formal proofs among them"
	@echo "make test-train the tests of dipole train; installs PyTorch first"
	@echo "make lint       ruff: rules and format       make types   pyright"
	@echo "make format     ruff: mend what it can       make clean   all that was made, .venv included"

$(INSTALLED): pyproject.toml
	@test -n "$(PYTHON)" || { echo "error: no Python >= 3.11 on PATH; give one with PYTHON=..." >&2; exit 1; }
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	mkdir -p build/typing/dipole
	for p in $(PACKAGES); do ln -sfn ../../../$$p build/typing/dipole/$$p; done
	touch $@

install: $(INSTALLED)

demo: $(INSTALLED)
	$(BIN)/dipole demo -o $(OUT)/demo

test: lint types
	$(BIN)/pytest -n $(JOBS) -m "not slow and not formal and not board and not train"

test-slow: $(INSTALLED)
	$(BIN)/pytest -n $(JOBS) -m "(slow or formal) and not board and not train"

# PyTorch is large and no other part needs it: it is installed where somebody trains.
test-train: $(INSTALLED)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev,train]'
	$(BIN)/pytest -n $(JOBS) -m train

lint: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(INSTALLED)
	$(BIN)/pyright

format: $(INSTALLED)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf .venv build dist out *.egg-info .pytest_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
