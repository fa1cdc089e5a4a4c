# fedbus: what one does with it. `make` alone lists the targets. Needs Python 3.11–3.13 with venv, and make; nothing else.
SHELL := /bin/sh
.DEFAULT_GOAL := help
.SUFFIXES:

# Passed through to the command behind the target: make test ARGS="-k ledger", make demo ARGS="--trace load.csv"
ARGS ?=
# Where `make sim` finds load series, CSV files with the columns ds,y; none come with the project.
TRACES ?= traces

BIN   := .venv/bin
STAMP := .venv/.set-up

.PHONY: help setup demo test lint bench load chaos sim docs lock clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-8s %s\n", $$1, $$2 }' Makefile

setup: $(STAMP) ## make .venv from the lock file (first time: a few minutes; later: nothing to do)

# The stamp is written last: an interrupted set-up is done again, a finished one only when its inputs change.
$(STAMP): requirements.lock pyproject.toml
	@python=$$(PYTHON='$(PYTHON)' sh .ci/find-python) && "$$python" .ci/set_up.py && touch $@

demo: $(STAMP) ## three regions, a realistic load, a forecast, a failure on purpose; ends by itself
	@$(BIN)/fedbus demo $(ARGS)

test: $(STAMP) ## the whole test suite
	@$(BIN)/python -m pytest $(ARGS)

lint: $(STAMP) ## ruff, formatting, mypy strict, import contracts: all of them, also if one fails
	@failed=; \
	for check in "ruff check" "ruff format --check" "mypy" "lint-imports"; do \
		echo "== $$check"; \
		$(BIN)/$$check || failed="$$failed $${check%% *}"; \
	done; \
	if [ -n "$$failed" ]; then echo "lint failed:$$failed" >&2; exit 1; fi

load: $(STAMP) ## locust users against a federation started for them
	@$(BIN)/python -m fedbus_loadtests.load $(ARGS)

bench: $(STAMP) ## benchmarks side by side with the peers installed, and docs/benchmarks.md from them (some 15 minutes)
	@$(BIN)/fedbus bench all $(ARGS); status=$$?; $(BIN)/fedbus bench page && exit $$status

chaos: $(STAMP) ## an hour of faults, checked from recorded histories (ARGS="--minutes 5 --seed 7 --faults kill,stop")
	@$(BIN)/python -m fedbus_loadtests.chaos run $(ARGS)

sim: $(STAMP) ## the bars of prediction on every series of a directory (make sim TRACES=DIR), at 2, 5 and 10 minutes' delay
	@$(BIN)/python -m fedbus_actors.cli.simulate_bars '$(TRACES)' $(ARGS)

docs: ## the reference generated from code (not yet)
	@echo "make docs: comes with the generated reference; what is written by hand is in docs/" >&2; exit 2

lock: $(STAMP) ## resolve the dependencies of pyproject.toml anew into requirements.lock (ARGS=--upgrade for newer ones)
	@$(BIN)/uv pip compile --universal --python-version 3.11 --extra cluster --extra bench --extra dev --generate-hashes \
		--no-emit-index-url --no-annotate pyproject.toml -o requirements.lock --quiet $(ARGS)

clean: ## remove .venv and caches (data directories stay)
	@rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache build dist
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +
