# Everything runs in .venv, which is made from Python 3.11 or newer and the pinned versions.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

# Compiled programs are kept between runs: most of a short run is compilation.
export JAX_COMPILATION_CACHE_DIR ?= $(CURDIR)/.jax_cache
export JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS ?= 0
export JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES ?= -1

ENV ?= Pendulum-v1
SEED ?= 0
OUT ?= runs/$(ENV)-seed$(SEED)-$(shell date +%Y%m%d-%H%M%S)

.PHONY: train test test-full lint format bench clean

train: $(READY)
	$(BIN)/gaussjax train $(ENV) --seed $(SEED) --out $(OUT)

test: $(READY)
	$(BIN)/python -m pytest -q -m "not slow"

test-full: $(READY)
	$(BIN)/python -m pytest -q

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports
	$(BIN)/pyright

format: $(READY)
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

$(READY): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip -c constraints.txt
	$(BIN)/python -m pip install --quiet -c constraints.txt -e ".[train,mujoco,torch,dev]"
	touch $@

clean:
	rm -rf $(VENV) .jax_cache
