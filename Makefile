# raynas: `make` lists the targets. Only Python >= 3.11, make, bash and a package index are needed.
#
#   PYTHON=/path/to/python3.12   the interpreter for .venv (default: the first that will do)
#   TORCH_INDEX=URL              one more package index, for another build of torch, such as
#                                https://download.pytorch.org/whl/cpu
#   JOBS=2                       test processes
#   PYTEST_ARGS=...              handed on to pytest by `make test`
#   CHAOS_ARGS=...               handed on by `make chaos`
#   SEEDS=10000                  of each world of `make simulate`

SHELL := bash
.DEFAULT_GOAL := help
.PHONY: help simulate setup setup-cluster constraints demo test test-long check docs bench chaos clean

JOBS ?= 2
TORCH_INDEX ?=
PYTEST_ARGS ?=
SEEDS ?= 10000
CHAOS_ARGS ?=
DEMO := runs/demo
STAMP := .venv/.setup-done
CLUSTER := .venv/.cluster-done
RUN := .venv/bin/python -m

# A Python that is new enough and can make virtual environments (Debian splits ensurepip off).
USABLE := import sys, venv, ensurepip; raise SystemExit(sys.version_info < (3, 11))
PYTHON ?= $(shell for p in python3.11 python3.12 python3.13 python3; do \
	"$$p" -c '$(USABLE)' 2>/dev/null && { echo "$$p"; break; }; done)

export RAY_USAGE_STATS_ENABLED := 0
export PIP_DISABLE_PIP_VERSION_CHECK := 1

help:  ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-12s %s\n", $$1, $$2 }' Makefile

setup: $(STAMP)  ## make .venv with the pinned versions (again only when these change)

# pip's own messages are many: shown are the packages as they come, and all errors.
$(STAMP): pyproject.toml constraints.txt
	@if ! .venv/bin/python -c '$(USABLE)' 2>/dev/null; then \
		if ! "$(PYTHON)" -c '$(USABLE)' 2>/dev/null; then \
			echo "make: no usable Python: '$(PYTHON)' is not Python >= 3.11 with venv; install one" \
				"(Debian, Ubuntu: apt install python3 python3-venv) or say where it is:" \
				"make setup PYTHON=/path/to/python3.11" >&2; exit 2; \
		fi; \
		echo "making .venv with $$("$(PYTHON)" --version)"; \
		"$(PYTHON)" -m venv --clear .venv; \
	fi
	@echo "installing the pinned versions, this takes minutes the first time:"
	@set -o pipefail; PIP_ROOT_USER_ACTION=ignore $(RUN) pip install --progress-bar off -c constraints.txt \
		$(if $(TORCH_INDEX),--extra-index-url "$(TORCH_INDEX)") -e ".[dev]" \
		| awk '/^Collecting / { printf "%s ", $$2; fflush() } \
			/^Installing collected/ { printf "\nunpacking ...\n"; fflush() }'
	@touch $(STAMP)
	@echo "ready: .venv/bin/raynas --help"

setup-cluster: $(CLUSTER)  ## the same, with what `ray up`, `ray job` and a cluster's nodes need

$(CLUSTER): $(STAMP) deploy/constraints.txt
	PIP_ROOT_USER_ACTION=ignore $(RUN) pip install -q -c constraints.txt -c deploy/constraints.txt \
		-e ".[cluster]"
	@touch $(CLUSTER)

constraints:  ## rewrite constraints.txt from what is installed in .venv
	@{ grep '^#' constraints.txt; \
		$(RUN) pip freeze --all --exclude-editable --exclude pip \
			| sed -E -n 's/^([A-Za-z0-9_.-]+==[^+ ]+)(\+.*)?$$/\1/p'; } > constraints.txt.new
	@mv constraints.txt.new constraints.txt

demo: setup  ## a real architecture search on 2 cores in about 3 minutes (replaces runs/demo)
	@if [ -e $(DEMO) ]; then echo "replacing the earlier $(DEMO)"; rm -rf $(DEMO); fi
	.venv/bin/raynas demo --output $(DEMO)
	@echo "report: $(DEMO)/report.html"

# tests/conftest.py says which tests stay in one process; bytecode is kept, for tests start about a
# hundred processes
test: setup  ## all tests but the long ones, a quarter of an hour on two cores
	PYTHONDONTWRITEBYTECODE= OMP_NUM_THREADS=1 $(RUN) pytest -q -n $(JOBS) --dist loadfile \
		--no-loadscope-reorder -m "not long" $(PYTEST_ARGS)

test-long: setup  ## faults, lost machines, two drivers: some minutes more
	$(RUN) pytest -q -m long $(PYTEST_ARGS)

check: setup  ## lint, format, types, floors
	$(RUN) ruff check .
	$(RUN) ruff format --check .
	$(RUN) mypy
	.venv/bin/lint-imports

# Warnings are errors; nothing is fetched while it builds, nor by the built pages.
docs: setup  ## build the documentation into build/site
	NO_MKDOCS_2_WARNING=1 $(RUN) mkdocs build --strict --quiet
	@.venv/bin/python docs/tools/check_site.py build/site
	@echo "documentation: build/site/index.html"

bench: setup  ## the benchmarks of benchmarks/README.md, on an otherwise idle machine
	@set -e; for script in benchmarks/bench_*.py; do \
		echo "== $$script"; .venv/bin/python "$$script"; done

chaos: setup  ## a search struck by 20 random faults, ten minutes; CHAOS_ARGS=--seed=7 replays one
	.venv/bin/python tests/chaos.py $(CHAOS_ARGS)

simulate: setup  ## deterministic simulations of searches, store, server and actors; SEEDS=100000
	@status=0; for world in search store long_store server actors; do \
		.venv/bin/python tests/simulate.py $$world --seeds $(SEEDS) --jobs $(JOBS) || status=$$?; \
	done; exit $$status

clean:  ## remove .venv and caches (never runs/)
	rm -rf .venv build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis \
		.import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
