# `make help` lists the targets. Every target installs what it needs into .venv first.
PYTHON ?= python3
BIN := .venv/bin

.DEFAULT_GOAL := help
.PHONY: help demo test test-all mutants check docs dist fix bench bench-stream clean

help:  ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "%-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

# The stamp records that pyproject.toml was installed; editing that file installs again.
.venv/.installed: pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed: make PYTHON=python3.12 ...")'
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[dev]'
	touch $@

demo: .venv/.installed  ## the main job on drawn data: prepare, pack, preview, train, evaluate
	$(BIN)/stm demo --out runs/demo

test: .venv/.installed  ## the fast tests
	$(BIN)/python -m pytest -n 2 --dist loadfile

test-all: .venv/.installed  ## every test that this machine can run, with newly drawn examples
	HYPOTHESIS_PROFILE=random $(BIN)/python -m pytest -m "not gpu"

mutants: .venv/.installed  ## list single changes of the core that no test notices; MODULES=... chooses
	$(BIN)/python -m tests.mutants $(MODULES)

check: .venv/.installed  ## format, lint, types, import contracts, fast tests
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(MAKE) test

docs: .venv/.installed  ## the documentation as a site in site/, its links checked
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet

dist: .venv/.installed  ## the sdist and the wheel, in dist/
	$(BIN)/python -m build

fix: .venv/.installed  ## apply the formatter and the automatic fixes of the linter
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: .venv/.installed  ## benchmarks on drawn data; with COCO=FOLDER also those that need real images
	for name in metrics appearance train_step; do $(BIN)/python -m benchmarks.bench_$$name || exit 1; done
ifdef COCO
	$(BIN)/python -m benchmarks.bench_synth --images $(COCO)/train2017 --annotations $(COCO)/annotations/instances_train2017.json
endif

# The other loaders need other versions of shared packages, hence an environment of their own.
.venv-bench/.installed: pyproject.toml
	test -x .venv-bench/bin/python || $(PYTHON) -m venv .venv-bench
	.venv-bench/bin/python -m pip install --quiet --disable-pip-version-check -e '.[bench]'
	touch $@

bench-stream: .venv-bench/.installed  ## our loader next to others, and up to 10^6 clips; SHARDS=FOLDER VIDEOS=FOLDER
	.venv-bench/bin/python -m benchmarks.bench_stream $(if $(SHARDS),--shards $(SHARDS)) $(if $(VIDEOS),--videos $(VIDEOS))
	.venv-bench/bin/python -m benchmarks.bench_scale

clean:  ## remove environments and caches; data, shards and runs stay
	rm -rf .venv .venv-bench .mypy_cache .ruff_cache .pytest_cache .import_linter_cache *.egg-info build site
