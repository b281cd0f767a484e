# Two commands for a new user: `make demo` and `make test`. Both make their own .venv first.
PYTHON ?= python3
BIN := .venv/bin
READY := .venv/ready

$(READY): pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed: make PYTHON=/path/to/python3.11")'
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt torch
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev,train]'
	touch $(READY)

.PHONY: setup demo test test-slow lint types format check evaluate schemas
setup: $(READY)

# make demo [IMAGES="a.tif b.tif"]: all eight tools on a synthetic scene with known truth, and on your own files.
demo: $(READY)
	$(BIN)/python -m training.demo $(if $(IMAGES),--images $(IMAGES))

test: $(READY)
	$(BIN)/python -m pytest

# Slow tests need 8 GB of memory and 4 GB of disk.
test-slow: $(READY)
	$(BIN)/python -m pytest -m slow

lint: $(READY)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .

types: $(READY)
	$(BIN)/mypy

format: $(READY)
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

check: lint types test

# make evaluate DATA=folder: the embedded model on the test splits that are there; writes the card's table of scores anew.
# Stop it at any time: the same command goes on. The report stands in runs/eval.
DATA ?= ../shared/data
evaluate: $(READY)
	$(BIN)/python -m training.evaluate --data $(DATA) --card vlm/nano/MODEL_CARD.md

# After a deliberate change of a tool's parameters: write the schema snapshots anew, then read the difference in git.
schemas: $(READY)
	UPDATE_SCHEMAS=1 $(BIN)/python -m pytest tests/test_schemas.py
