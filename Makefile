# make demo: see it work.  make test, make lint: what CI runs.  Each makes .venv if it is missing.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
export GLOO_SOCKET_IFNAME ?= lo

.PHONY: demo test lint slow clean

$(VENV)/installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install -q --disable-pip-version-check -c constraints.txt -e '.[dev]'
	touch $@

demo: $(VENV)/installed
	$(BIN)/pixgraft translate i2ilr-portraits-64 --source examples/sources --target examples/targets --out out/demo --grid

test: $(VENV)/installed
	$(BIN)/python -m pytest -n 2 --dist worksteal

slow: $(VENV)/installed
	$(BIN)/python -m pip install -q --disable-pip-version-check -c constraints.txt -e '.[dev,references]'
	$(BIN)/python -m pytest -m slow

lint: $(VENV)/installed
	$(BIN)/ruff check .
	$(BIN)/mypy

clean:
	rm -rf $(VENV) out build
