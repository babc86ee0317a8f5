# make demo: see it work.  make test, make lint: what CI runs.  make slow: the slow tests.  make fuzz: 10,000 spoilt
# files.  make crash: 350 kills.  make browser: the pages in Chromium.  make gallery: docs/index.html, with PICTURES=1 its pictures.  make gpu: the
# plan for a machine with a GPU.
# Each makes .venv if it is missing.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
export GLOO_SOCKET_IFNAME ?= lo

GPU_OUT ?= out/gpu$(if $(DRY),-dry)

.PHONY: demo test lint slow fuzz crash browser gallery gpu clean

$(VENV)/installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install -q --disable-pip-version-check -c constraints.txt -e '.[dev]'
	touch $@

demo: $(VENV)/installed
	$(BIN)/pixgraft demo out/demo

test: $(VENV)/installed
	$(BIN)/python -m pytest -n 2 --dist worksteal

slow: $(VENV)/installed
	$(BIN)/python -m pip install -q --disable-pip-version-check -c constraints.txt -e '.[dev,references]'
	$(BIN)/python -m pytest -m slow

fuzz: $(VENV)/installed
	OMP_NUM_THREADS=1 $(BIN)/python tests/hostile/fuzz.py

crash: $(VENV)/installed
	OMP_NUM_THREADS=1 $(BIN)/python tests/hostile/crash.py

browser: $(VENV)/installed
	$(PYTHON) -m venv $(VENV)-app
	$(VENV)-app/bin/python -m pip install -q --disable-pip-version-check -c constraints.txt -e '.[dev,app]'
	$(VENV)-app/bin/python -m pytest -m slow tests/test_study_page.py tests/test_app_page.py tests/test_gallery.py

gallery: $(VENV)/installed
	$(BIN)/python docs/gallery.py $(if $(PICTURES),--pictures)

# In pieces of at most nine minutes: call it again until it says that all is done. DATA and PAIRS are for the trainings.
gpu: $(VENV)/installed
	$(BIN)/python benchmarks/gpu.py --out $(GPU_OUT) $(if $(DATA),--data $(DATA)) $(if $(PAIRS),--pairs $(PAIRS)) \
		$(if $(DRY),--dry)

lint: $(VENV)/installed
	$(BIN)/ruff check .
	$(BIN)/mypy

clean:
	rm -rf $(VENV) $(VENV)-app out build
