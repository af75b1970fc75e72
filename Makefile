# What people and CI call. Everything is installed into .venv.
#   make demo   the paper's idea on real pictures, in minutes
#   make test   type check and tests
#   make test-newest PYTHON=python3.13
#               the same tests with the newest versions of all dependencies
#   make test-aot
#               compiles programs for TPUs and GPUs that are not attached
#   make lint   style
PYTHON ?= python3
BIN := .venv/bin
export PYTHONUNBUFFERED := 1

.PHONY: demo test test-newest test-aot lint format install clean

install: .venv/installed

# Pins from requirements.txt; the package itself from this folder.
.venv/installed: requirements.txt setup.cfg pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet -r requirements.txt
	$(BIN)/python -m pip install --quiet --no-deps -e .
	touch $@

demo: install
	$(BIN)/python experiments/prepare_data.py --dataset=icons
	$(BIN)/python experiments/demo.py

test: install
	$(BIN)/mypy
	$(BIN)/python -m pytest -n 2 --dist=loadfile -q

# An environment of its own for each Python: jax 0.10.2 is the last for 3.11.
test-newest: NEWEST = .venv-newest-$(notdir $(PYTHON))
test-newest:
	$(PYTHON) -m venv $(NEWEST)
	$(NEWEST)/bin/python -m pip install --quiet --upgrade pip
	$(NEWEST)/bin/python -m pip install --quiet --upgrade \
	  --upgrade-strategy eager -e ".[dev,icons,hardness]"
	$(NEWEST)/bin/python -m pip list
	$(NEWEST)/bin/python -m pytest -n 2 --dist=loadfile -q

# Apart, because the plugins look for their devices whenever jax starts.
test-aot:
	$(PYTHON) -m venv .venv-aot
	.venv-aot/bin/python -m pip install --quiet --upgrade pip
	.venv-aot/bin/python -m pip install --quiet -e ".[dev,aot]"
	JAX_PLATFORMS=cpu .venv-aot/bin/python -m pytest -q \
	  tests/ahead_of_time_test.py

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

format: install
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf .venv .venv-aot .venv-newest-* build dist *.egg-info
