# Commands for people and for CI. `make demo` and `make test` need Python 3.11 to 3.14 and nothing else.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
DEMO_DATA := $(CURDIR)/.demo
DEMO_VENV := .venv-demo
DOCS_VENV := .venv-docs
TESTS  ?= tests

.PHONY: demo docs test test-interpreters release-files packages durability collector check format columns bench bench-delivery screenshots structure clean

$(VENV)/.made: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed: make PYTHON=python3.x ...")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@touch $@

# What the demo needs and no more: a minute, where the tests' environment takes several.
$(DEMO_VENV)/.made: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed: make PYTHON=python3.x ...")'
	@echo "Installing into $(DEMO_VENV) what the demo needs: about 45 packages, once."
	@$(PYTHON) -m venv $(DEMO_VENV)
	@began=$$(date +%s); $(DEMO_VENV)/bin/pip install --no-compile --disable-pip-version-check -c constraints.txt -e '.[service,cost]' \
	  | grep --line-buffered -E '^(Collecting|Installing)' | cut -c -100 && \
	  echo "Installed in $$(($$(date +%s) - began)) s: $$(du -sm $(DEMO_VENV) | cut -f 1) MB."
	@touch $@

# An agent at work, a failure, a killed process, and the page with their runs; DEMO=once ends by itself.
demo: export TELEMETRY_BASE_DIR := $(DEMO_DATA)
demo: $(DEMO_VENV)/.made
	@rm -rf $(DEMO_DATA)
	@$(DEMO_VENV)/bin/python scripts/demo.py

# The site of the documentation in build/site; a link that leads nowhere is an error.
docs: $(DOCS_VENV)/.made
	@$(DOCS_VENV)/bin/python scripts/site_source.py build/site-source
	@NO_MKDOCS_2_WARNING=1 $(DOCS_VENV)/bin/mkdocs build --quiet && echo "build/site/index.html"

$(DOCS_VENV)/.made: pyproject.toml
	$(PYTHON) -m venv $(DOCS_VENV)
	$(DOCS_VENV)/bin/pip install --quiet --disable-pip-version-check 'mkdocs-material>=9.5' 'mkdocstrings[python]>=0.26'
	@touch $@

# All tests, including those that kill processes; in three parallel workers, because many tests wait for processes.
test: $(VENV)/.made
	$(BIN)/python -m pytest $(TESTS) -n 3 --dist worksteal

# The fast part: what needs no extra but `zstd`, no service and no other program.
NEED_EXTRAS := $(addprefix tests/test_, argument_types.py bench.py columns.py contributing.py docs.py packaging.py \
  secret_forms.py walkthroughs.py)
FAST := $(filter-out $(NEED_EXTRAS), $(wildcard tests/test_*.py)) \
  tests/buffer tests/capture tests/client tests/recording \
  $(filter-out tests/host/test_libraries.py, $(wildcard tests/host/test_*.py)) \
  $(addprefix tests/operations/test_, run_ledger.py run_tree.py sequence_ledger.py) \
  $(addprefix tests/otel/test_, exporter.py log_events.py mapping.py processor.py propagation.py usage.py)

# The fast part with the base install on each newer interpreter that is found here, warnings being errors: 10 minutes each on
# two busy cores. CI runs a part of it: make test-interpreters INTERPRETER_TESTS='tests/recording tests/client'
INTERPRETERS ?= 3.12 3.13 3.14
INTERPRETER_TESTS ?= $(FAST)
test-interpreters:
	@found=; for version in $(INTERPRETERS); do \
	  for python in python$$version $$HOME/.pyenv/versions/$$version.*/bin/python; do \
	    $$python -c '' 2>/dev/null || continue; \
	    found="$$found $$version"; venv=$(VENV)-$$version; echo "Python $$version: $$python"; \
	    $$python -m venv $$venv && \
	    $$venv/bin/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[zstd]' pytest hypothesis && \
	    $$venv/bin/python -W error -m pytest -q $(wildcard $(INTERPRETER_TESTS)) || exit 1; \
	    break; \
	  done; \
	done; echo "tested with Python:$${found:- none of $(INTERPRETERS) is installed}"

# Only the tests that kill processes, for longer: make durability KILLS=1000
durability: $(VENV)/.made
	DURABILITY_KILLS=$(or $(KILLS),1000) DURABILITY_SERVICE_KILLS=40 WHOLE_RUN_KILLS=50 \
	  $(BIN)/python -m pytest tests/durability tests/service/test_whole_runs.py -m durability -s

# The wheel and the source distribution in build/dist, checked as an index checks them.
release-files:
	rm -rf build/dist && $(PYTHON) -m venv build/release-venv
	build/release-venv/bin/pip install --quiet --disable-pip-version-check build twine
	build/release-venv/bin/python -m build --quiet --outdir build/dist .
	build/release-venv/bin/twine check --strict build/dist/*

# The wheel, alone and with each extra, in an empty environment, used and measured. Takes minutes.
packages: release-files
	$(PYTHON) scripts/try_packages.py build/dist/*.whl

# The OpenTelemetry Collector of collector-config/builder.yaml, for trying its pipelines and for their tests. Needs Go;
# about 6 minutes on two cores the first time, nothing afterwards. AGENT_TELEMETRY_CACHE moves it out of .cache.
collector:
	collector-config/build.sh

# Formatting, lint rules and types.
check: $(VENV)/.made
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

format: $(VENV)/.made
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

# The lists of columns that type checkers and readers need, from the table in otel_agent_telemetry/columns.py.
columns: $(VENV)/.made
	$(BIN)/python scripts/write_columns.py

# The tables of docs/reference/attributes.md, from the table in otel_agent_telemetry/otel/conventions/.
attributes: $(VENV)/.made
	$(BIN)/python scripts/write_attributes.py

# What recording, the service, reading and capturing cost, as one table; each row is measured in alternating pairs.
# BENCH_BACKLOG, BENCH_ROWS, BENCH_ENTRIES and BENCH_LINES are the large numbers in it; BENCH_FAST=1 makes it short.
bench: $(VENV)/.made
	$(BIN)/python tests/bench/run.py
	@$(BIN)/python tests/bench/service.py
	@$(BIN)/python tests/bench/run_page.py
	@$(BIN)/python tests/bench/million.py $(or $(BENCH_LINES),1000000)
	@$(BIN)/python tests/bench/capture.py

# How late events of a hundred writing processes reach a service on PostgreSQL, and a backlog against COPY. The budgets, in
# 12 minutes: make bench-delivery BENCH_RATES=1000:600,5000:60
bench-delivery: $(VENV)/.made
	BENCH_RATES=$(BENCH_RATES) $(BIN)/python tests/bench/whole_runs.py

# Size, words and paths of the package as a table; ROOT=FOLDER counts another checkout.
structure: $(VENV)/.made
	@$(BIN)/python tests/structure_report.py $(ROOT)

clean:
	rm -rf $(VENV) $(VENV)-3.* $(DEMO_VENV) $(DOCS_VENV) $(DEMO_DATA) build *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
