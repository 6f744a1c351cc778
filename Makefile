# The project's verbs. `make demo` and `make test` need Python >= 3.10 and nothing else.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
SHELL := /bin/bash

.PHONY: setup demo test lint clean
.DEFAULT_GOAL := demo

# A stamp per version of pyproject.toml: a changed dependency installs again, an unchanged one does not.
$(VENV)/.installed: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --editable ".[train,clip,test,lint]"
	touch $@

setup: $(VENV)/.installed

# Trains on the synthetic set for about two minutes, predicts, writes runs/demo/contact_sheet.png.
demo: setup
	$(BIN)/python examples/demo.py --output_dir runs/demo

test: setup
	HF_HUB_OFFLINE=1 OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

clean:
	rm -rf $(VENV) runs .pytest_cache .ruff_cache .mypy_cache
