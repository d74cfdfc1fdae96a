# Two commands are all the set-up there is: make demo, make test. Each makes its environment where it is missing.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin

.PHONY: demo test lint clean

$(VENV)/installed: pyproject.toml requirements.lock
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check -c requirements.lock -e ".[dev,cortex,cluster,features,diffusion,hub]"
	touch $@

demo: $(VENV)/installed
	$(BIN)/cortexflow run demo --out demo

test: $(VENV)/installed lint
	$(BIN)/pytest -n 2

lint: $(VENV)/installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

clean:
	rm -rf $(VENV) demo .pytest_cache .mypy_cache .ruff_cache
