# What can be done here: `make help`. Everything happens in .venv, which is made on the first call.

PYTHON ?= python3
SEED ?= 0
DEMO ?= demo
READY := .venv/.ready
BENCH_READY := .venv-bench/.ready
# Benchmarks that train, or run for long: by hand
LONG := ablation real_scans fuzz nodes soak rehearsal

.DEFAULT_GOAL := help
.PHONY: help demo test lint schema bench audit clean setup

help:            ## say what can be done
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/  make \1\t\2/p' Makefile | expand -t 16

demo: $(READY)   ## made-up scans, four rounds, scores and a report in demo/ (SEED=1 DEMO=demo/seed-1 for others)
	@PATH="$(CURDIR)/.venv/bin:$$PATH" sh jobs/demo.sh "$(SEED)" "$(DEMO)"

test: $(READY)   ## run the tests
	.venv/bin/python -m pytest

lint: $(READY)   ## check style and types
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/mypy

schema: $(READY) ## write zarr_schema/v1.schema.json from the records
	.venv/bin/python -m pwsseg.store.schema > zarr_schema/.v1.schema.json
	mv zarr_schema/.v1.schema.json zarr_schema/v1.schema.json

bench: $(BENCH_READY) ## run the benchmarks, each side by side with a peer (those named in LONG by hand)
	@for script in $(filter-out $(LONG:%=benchmarks/%.py),$(wildcard benchmarks/*.py)); do \
	    echo "\$$ python $$script"; .venv-bench/bin/python "$$script" || exit 1; \
	done

# Advisories that were looked at and accepted, each with its reason: --ignore-vuln GHSA-...
AUDIT_ACCEPTED :=

audit:           ## known vulnerabilities of the pinned dependencies (asks pypi.org)
	$(PYTHON) -m venv .venv-audit
	.venv-audit/bin/pip install --quiet pip-audit
	.venv-audit/bin/pip-audit --strict --no-deps --disable-pip --progress-spinner off $(AUDIT_ACCEPTED) -r constraints.txt

clean:           ## delete what demo, tests and linters made; environments stay (rm -r .venv .venv-*)
	rm -rf demo build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis *.egg-info
	find pwsseg jobs tests benchmarks -name __pycache__ -type d -prune -exec rm -rf {} +

setup: $(READY)  ## only make the environment

# A Python that is too old, and an environment that was left half made, are the usual failures.
define environment
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
	    echo "error: Python 3.11 or newer is needed and $(PYTHON) is none; name another, as in: make PYTHON=python3.12" >&2; exit 1; }
	@test -x $(@D)/bin/pip || $(PYTHON) -m venv $(@D) || { \
	    echo "error: $(PYTHON) can't make environments; install its venv package (Debian, Ubuntu: apt install python3-venv)" >&2; exit 1; }
endef

# torch goes first: it is the largest, and one that is there already (a CPU build, say) is kept
$(READY): pyproject.toml constraints.txt
	$(environment)
	$(@D)/bin/python -m pip install --disable-pip-version-check -c constraints.txt torch
	$(@D)/bin/python -m pip install --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@touch $@

$(BENCH_READY): pyproject.toml constraints.txt benchmarks/requirements.txt benchmarks/requirements-no-deps.txt
	$(environment)
	$(@D)/bin/python -m pip install --disable-pip-version-check -c constraints.txt torch
	$(@D)/bin/python -m pip install --disable-pip-version-check -c constraints.txt -e . -r benchmarks/requirements.txt
	$(@D)/bin/python -m pip install --disable-pip-version-check --no-deps -r benchmarks/requirements-no-deps.txt
	@touch $@
