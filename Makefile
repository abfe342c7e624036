# `make demo` shows the main job, `make test` passes all tests that fit into ten minutes on two cores, `make test-all`
# also those with real kernels, servers, clusters and a browser; all set up what they need in .venv.
PYTHON ?= python3
BIN := .venv/bin
# setuptools warns of every editable installation, and newer versions of pip pass it on
INSTALL := PYTHONWARNINGS='ignore:Editable installation' $(BIN)/python -m pip \
  --disable-pip-version-check --quiet install --no-compile --constraint .ci/constraints.txt
# what pip would do on one core alone, but for what nothing here imports, and what Python would do anew at each start where
# it may not keep what it compiles; a template that is no Python, as some packages have, is no failure
UNUSED := tests?|testing|pip|mypyc?|debugpy|networkx|fontTools|aiohttp|wcwidth|torch/_inductor|sympy/physics
COMPILE := $(BIN)/python -m compileall -qq -j 0 -x 'site-packages/(.*/)?($(UNUSED))/' .venv/lib grading tests solutions || true
# a copy of the four IDX files beside the checkout is used where there is one
FASHION_MNIST_DIR ?= $(wildcard ../shared/fashion-mnist)
ifneq ($(FASHION_MNIST_DIR),)
export FASHION_MNIST_DIR
endif

.PHONY: setup setup-dev demo test test-all trust bench lint clean

setup: .venv/.student
setup-dev: .venv/.dev

.venv/bin/python:
	$(PYTHON) -m venv .venv
	@# the one that came with Python may take twice as long to find what to install
	$(INSTALL) pip

.venv/.student: .venv/bin/python pyproject.toml .ci/constraints.txt
	$(INSTALL) --editable .
	@$(COMPILE)
	@touch $@

.venv/.dev: .venv/bin/python pyproject.toml .ci/constraints.txt
	$(INSTALL) --editable '.[dev]'
	@$(COMPILE)
	@touch .venv/.student $@

demo: setup
	$(BIN)/goodinit demo

test: setup-dev lint
	$(BIN)/goodinit build --check
	$(BIN)/pytest --impl solutions --numprocesses 2
	$(BIN)/python -m grading.trust --quick
	$(BIN)/pytest grading/tests --assert=rewrite -m 'not slow' --numprocesses 2 --dist loadfile --no-loadscope-reorder

test-all: test
	$(BIN)/pytest grading/tests --assert=rewrite -m slow

trust: setup-dev
	$(BIN)/python -m grading.trust --report trust.md

bench: setup-dev
	$(BIN)/python -m grading.bench

lint: setup-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

clean:
	rm -rf .venv .pytest_cache .mypy_cache .ruff_cache .hypothesis *.egg-info runs trust.md
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
