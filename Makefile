# Everything runs in .venv, which `setup` makes; nothing is installed outside it and the user's cache.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

BIN := .venv/bin
export PATH := $(CURDIR)/$(BIN):$(PATH)
# Without bytecode, each engine that a test starts compiles the Google SDK again.
unexport PYTHONDONTWRITEBYTECODE

# The first Python that is new enough: on some systems `python3` is not.
PYTHON ?= $(shell for p in python3 python3.14 python3.13 python3.12 python3.11; do \
  if "$$p" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then echo "$$p"; break; fi; done)

# A file's tests stay together: they share what is expensive to start. Many only wait: three keep two cores busy.
WORKERS := --numprocesses 3 --dist loadfile --no-loadscope-reorder

.PHONY: help setup engine demo test faults check lock

help: ## what there is to make
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):.*## /  make \1\t/'

setup: ## the environment and every tool; quick when all is there
	@if [[ -z "$(PYTHON)" ]]; then \
	  echo "mayfly needs Python 3.11 or newer, and PATH has none." >&2; \
	  echo "Try: apt-get install python3 python3-venv, or https://www.python.org" >&2; exit 1; fi
	@"$(PYTHON)" -m tools setup

engine: setup ## Pulumi's engine and the other tools (part of setup)

demo: setup ## the whole story on a local cloud: no account, no cost (ARGS=--fast)
	@mayfly demo $(ARGS)

test: setup check ## everything that CI runs
	@"$(PYTHON)" -m tools browser
	@python -m pytest $(WORKERS) $(ARGS)

faults: setup ## sessions that go wrong, and who ends them (ONLY=name,name RUNS=3 JSON=1)
	@python -m tests.faults --only "$(ONLY)" --runs $(or $(RUNS),1) $(if $(JSON),--json) \
	  $(if $(OUT),--out $(OUT))

check: setup ## linters and types
	@ruff check
	@ruff format --check --quiet || { echo "Try: .venv/bin/ruff format"; exit 1; }
	@mypy
	@git ls-files -z '*.sh' .ci/run | xargs -0 -r shellcheck --external-sources
	@git ls-files -z '*.sh' .ci/run | xargs -0 -r shfmt --diff --indent 2
	@actionlint
	@python tools/lock_check.py

lock: setup ## requirements.lock anew from pyproject.toml (needs an index; ARGS=--upgrade)
	@uv pip compile --quiet --universal --generate-hashes --no-emit-index-url --python-version 3.11 \
	  --group dev pyproject.toml -o requirements.lock $(ARGS)
