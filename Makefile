# One virtual environment, made on first use and reused after. `make check test` is what CI runs.
PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
PIP    := $(BIN)/python -m pip --disable-pip-version-check

DEMO_INPUT ?= examples/sign.jpg
DEMO_DIR   ?= demo-output

.DEFAULT_GOAL := help
.PHONY: help demo test test-slow check graph vendor fix bench clean

help:
	@echo "make demo       upscale $(DEMO_INPUT) x4 with the embedded model into $(DEMO_DIR)/"
	@echo "make test       the fast tests        make test-slow  the slow ones"
	@echo "make check      format, lint, types, floors (what CI checks)"
	@echo "make graph      which room imports which, for Graphviz: make graph | dot -Tsvg"
	@echo "make vendor     fetch the page's JavaScript libraries anew, by npm"
	@echo "make fix        let ruff repair what it can"
	@echo "make bench      the measurements of benchmarks/"
	@echo "make clean      remove caches, the demo's output and $(VENV)"

$(BIN)/python:
	@command -v $(PYTHON) >/dev/null 2>&1 || \
	  { echo "No '$(PYTHON)' here. Install Python 3.11 or newer, or say which: make PYTHON=/path/to/python3"; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "RealSRT needs Python 3.11 or newer; $(PYTHON) is $$($(PYTHON) --version 2>&1). Try: make PYTHON=python3.12"; exit 1; }
	$(PYTHON) -m venv $(VENV) || \
	  { rm -rf $(VENV); echo "Could not make $(VENV). On Debian and Ubuntu: apt install python3-venv"; exit 1; }

# What the package itself needs; enough for the demo.
$(VENV)/.core: pyproject.toml constraints.txt | $(BIN)/python
	@echo "Installing RealSRT into $(VENV) (the first time this takes some minutes)"
	@$(PIP) install -q -c constraints.txt -e .
	@touch $@

# And what training, tests and checks need.
$(VENV)/.dev: pyproject.toml constraints.txt | $(BIN)/python
	@echo "Installing RealSRT and its development tools into $(VENV)"
	@$(PIP) install -q -c constraints.txt -e '.[dev]'
	@$(PIP) install -q -c constraints.txt --no-deps spandrel einops # all that its tests need: not torchvision
	@touch $(VENV)/.core $@

demo: $(VENV)/.core
	@test -n "$(DEMO_INPUT)" || { echo "No picture in examples/. Name one: make demo DEMO_INPUT=photo.jpg"; exit 1; }
	@mkdir -p $(DEMO_DIR)
	$(BIN)/realsrt upscale "$(DEMO_INPUT)" -n small -s 4 --confidence -f png -o "$(DEMO_DIR)"
	@echo
	@echo "The picture and how sure the model is of each part of it (brighter = surer):"
	@for f in "$(DEMO_DIR)/$(basename $(notdir $(DEMO_INPUT)))"*.png; do echo "  $$(pwd)/$$f"; done

# A process a core: most tests compute with one thread. ARGS=-n0: in this one, as a debugger needs.
test: $(VENV)/.dev
	$(BIN)/python -m pytest -n logical --maxprocesses 4 --dist loadfile $(ARGS)

test-slow: $(VENV)/.dev
	$(BIN)/python -m pytest -m slow $(ARGS)

check: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright --pythonpath $(BIN)/python
	$(BIN)/lint-imports --no-cache

graph: $(VENV)/.dev
	@$(BIN)/import-linter drawgraph realsrt --show-lazy-imports --show-cycle-breakers

# The JavaScript libraries beside the page and its tests, by npm; their versions and hashes are in vendor.json.
vendor: $(BIN)/python
	$(BIN)/python recipes/vendor.py

fix: $(VENV)/.dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(VENV)/.dev
	@for f in flops picture; do echo "== benchmarks/$$f.py"; $(BIN)/python benchmarks/$$f.py || exit 1; done

clean:
	rm -rf $(VENV) $(DEMO_DIR) build dist src/*.egg-info .pytest_cache .ruff_cache .hypothesis
	find src tests -name __pycache__ -type d -prune -exec rm -rf {} +
