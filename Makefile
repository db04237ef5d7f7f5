# `make demo` and `make test` need Python 3.11+ and nothing else: each makes .venv itself.
PYTHON ?= $(shell for p in python3.13 python3.12 python3.11 python3 python; do \
	$$p -c 'import sys, venv; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done)
DATA ?= digits
BIN := .venv/bin

.PHONY: help demo test test-all test-lowest check format docs clean

help: ## Show this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 13

.venv/.installed: pyproject.toml constraints.txt
	@test -n "$(PYTHON)" || { echo "fallow needs Python 3.11 or newer. Install it, or call make PYTHON=/path/to/python3."; exit 2; }
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --upgrade-strategy only-if-needed -c constraints.txt -e '.[all]'
	@touch $@

.venv/.developing: .venv/.installed
	$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[all,trainers,dev,docs]'
	# Apart: the compiled operators of torchvision's wheel load beside its own build of torch only. No classifier
	# uses them, so the tests declare them.
	$(BIN)/python -m pip install --quiet -c constraints.txt --no-deps --upgrade --target .venv/vision timm torchvision
	@touch $@

demo: .venv/.installed ## Train on real images, and tell what happened (DATA=digits, fashion-mnist, cifar10, cifar10n)
ifneq ($(filter fashion-mnist cifar10 cifar10n,$(DATA)),)
	data="$$($(BIN)/python -m benchmarks.data $(DATA) --out .data | tail -1)" && test -n "$$data" && \
		$(BIN)/fallow train --data "$$data" --augment crop-flip
else ifeq ($(DATA),digits)
	$(BIN)/fallow demo
else
	$(BIN)/fallow train --data $(DATA)
endif

test: .venv/.developing ## The fast tests, with doctests, on two cores
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m "not slow" -n 2 --dist loadfile

test-all: .venv/.developing ## Every test
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile

# Old releases warn of things to come; what needs another extra than `all` is not tested with its oldest release.
TORCH ?= $(shell sed -n 's/^torch==//p' constraints.txt)
LOWEST := tests/test_cli.py tests/test_charts.py tests/test_compare.py tests/test_densities.py tests/test_error_mass.py \
	tests/test_examples.py tests/test_export.py tests/test_image_files.py tests/test_image_task.py \
	tests/test_key_store.py tests/test_lightning.py tests/test_loading.py tests/test_policies.py tests/test_report.py \
	tests/test_resumed_runs.py tests/test_scores.py tests/test_state_file.py tests/test_subsampler.py \
	tests/test_table_labels.py tests/test_text_runs.py tests/test_tokens.py tests/test_train_options.py
# Pillow reads these TIFFs from 13 on; matplotlib 3.9 makes the pyparsing of today warn.
LOWEST += --deselect "tests/test_image_files.py::TestOddModes::test_every_mode_keeps_what_it_shows[YCbCr-tif]" \
	--deselect tests/test_charts.py::test_files_are_the_same_in_another_process_that_loads_neither_torch_nor_pyplot

.lowest/.installed: pyproject.toml tests/lowest.py
	$(PYTHON) -m venv --clear .lowest
	$(PYTHON) tests/lowest.py > .lowest/constraints.txt
	echo "torch==$(TORCH)" >> .lowest/constraints.txt
	.lowest/bin/python -m pip install --quiet --no-compile -c .lowest/constraints.txt -e '.[all]' pytest pytest-timeout hypothesis
	@touch $@

test-lowest: .lowest/.installed ## Fast tests with the oldest releases that pyproject.toml allows, but for torch (TORCH=)
	OMP_NUM_THREADS=1 .lowest/bin/python -m pytest -m "not slow" -o filterwarnings=default $(LOWEST)

check: .venv/.developing ## Format, lint, types
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache

format: .venv/.developing ## Format and mend what can be mended
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

docs: .venv/.developing ## The site of all documents, in build/site; warnings are errors
	$(BIN)/python -m sphinx -q -E -a -W --keep-going -c docs . build/site
	@echo "Open build/site/index.html"

clean: ## Remove the virtual environment and caches
	rm -rf .venv .lowest build .mypy_cache .ruff_cache .pytest_cache
