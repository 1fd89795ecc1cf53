# `make run` for a first result, `make check` before every commit. Everything happens in .venv.

SCENARIO ?= scenarios/reuse_quick.yaml
RESULTS ?= $(wildcard scenarios/*.yaml)
VENV := .venv
BIN := $(VENV)/bin/python
STAMP := $(VENV)/.installed
IN_RANGE := import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))
PYTHON ?= $(firstword $(foreach p,python3 python3.13 python3.12 python3.11,\
	$(shell $(p) -c '$(IN_RANGE)' 2>/dev/null && echo $(p))))

export MLFLOW_DISABLE_TELEMETRY := true
export DO_NOT_TRACK := true

.PHONY: help run test slow check lint types docs results quick install clean

help:
	@echo "make run      install what is needed and run $(SCENARIO) (another: make run SCENARIO=FILE)"
	@echo "make test     the fast tests"
	@echo "make slow     the slow tests"
	@echo "make check    the gate: ruff, pyright, fast tests, strict docs build"
	@echo "make docs     docs/_build/html/index.html"
	@echo "make results  run every scenario at full size and rewrite docs/results"
	@echo "make quick    run every scenario on three worlds, as many at a time as there are cores (some: RESULTS='FILES')"
	@echo "make clean    remove .venv, the built docs and caches; runs/ and mlflow.db stay"

run: $(STAMP)
	@$(BIN) -m reuse_sim run $(SCENARIO)

test: $(STAMP)
	$(BIN) -m pytest -q -n auto -m "not slow"

slow: $(STAMP)
	$(BIN) -m pytest -q -n auto -m slow

check: lint types test docs

lint: $(STAMP)
	$(BIN) -m ruff check

types: $(STAMP)
	$(BIN) -m pyright

docs: $(STAMP)
	$(BIN) -m sphinx -q -n -W --keep-going docs docs/_build/html
	@echo "docs/_build/html/index.html"

results: $(STAMP)
	@for file in $(RESULTS); do \
		$(BIN) -m reuse_sim run $$file && $(BIN) -m reuse_sim report $$(basename $$file .yaml) || exit; done

# A scenario to a core: three worlds of one would leave every second core idle for a third of the time.
quick: $(STAMP)
	@printf '%s\n' $(RESULTS) | xargs -P $$(getconf _NPROCESSORS_ONLN) -n 1 $(BIN) -m reuse_sim run --seeds 3 --workers 1 --no-track

install: $(STAMP)

# Installs again only when pyproject.toml or constraints.txt changed.
$(STAMP): pyproject.toml constraints.txt
	@test -e $(VENV) || $(MAKE) -s $(VENV)
	@$(BIN) -m pip --version >/dev/null || \
		{ echo "make: $(VENV) has no working pip; remove it with 'make clean' and run this again" >&2; exit 2; }
	@echo "Installing into $(VENV), silently: some minutes the first time"
	$(BIN) -m pip install --disable-pip-version-check -q -c constraints.txt -e ".[dev,docs,fast]"
	@touch $@

$(VENV):
	@"$(PYTHON)" -c '$(IN_RANGE)' 2>/dev/null || \
		{ echo "make: Python 3.11, 3.12 or 3.13 is needed$(if $(PYTHON), and $(PYTHON) is none of them);" \
		"install one, or name it: make run PYTHON=/path/to/python3.13" >&2; exit 2; }
	@"$(PYTHON)" -m venv $@ || { rm -rf $@; \
		echo "make: $(PYTHON) cannot make a virtual environment; on Debian and Ubuntu: apt install python3-venv" >&2; exit 2; }

clean:
	rm -rf $(VENV) docs/_build .pytest_cache .ruff_cache .hypothesis build *.egg-info
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
