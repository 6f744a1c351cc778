# The project's verbs. `make demo` and `make test` need Python >= 3.10 and nothing else.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
SHELL := /bin/bash

.PHONY: setup demo test standard lint clean
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

# In parts, so that no worker holds all that two thousand tests leave in memory.
test: setup
	set -e; for part in "tests/[a-d]*/ tests/evaluation" "tests/ex*/ tests/[f-z]*/" "tests/test_*.py"; do \
		HF_HUB_OFFLINE=1 OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile $$part; done

# transformers' own common tests, from the sources of the version that is installed; the only target that fetches tests.
standard: setup
	$(BIN)/python -m pip install --quiet parameterized
	rm -rf build/transformers && mkdir -p build/transformers
	$(BIN)/python -m pip download --quiet --no-deps --no-build-isolation --no-binary :all: --dest build/transformers \
		transformers==$$($(BIN)/python -c "import importlib.metadata as m; print(m.version('transformers'))")
	tar -xzf build/transformers/*.tar.gz -C build/transformers --strip-components 1
	TRANSFORMERS_TESTS=build/transformers/tests HF_HUB_OFFLINE=1 OMP_NUM_THREADS=1 \
		$(BIN)/python -m pytest -o addopts= -q -n 2 tests/test_transformers_standard.py

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

clean:
	rm -rf $(VENV) build runs .pytest_cache .ruff_cache .mypy_cache
