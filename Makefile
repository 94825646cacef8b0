# Everything runs in .venv, which is made from Python 3.11 or newer and the pinned versions.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV := .venv
BIN := $(VENV)/bin
TRAINS := $(VENV)/.trains
READY := $(VENV)/.ready

# Compiled programs are kept between runs: most of a short run is compilation.
export JAX_COMPILATION_CACHE_DIR ?= $(CURDIR)/.jax_cache
export JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS ?= 0
export JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES ?= -1

# Processes that share the tests. Each needs up to 6 GiB.
JOBS ?= 2

ENV ?= Pendulum-v1
ALGORITHM ?= ppo
# For cloning: make train ALGORITHM=bc DATASET=recorded.npz
DATASET ?=
SEED ?= 0
OUT ?= runs/$(ENV)-$(ALGORITHM)-seed$(SEED)-$(shell date +%Y%m%d-%H%M%S)

.PHONY: train test test-full test-modes test-faults test-peers test-envs test-oldest test-loops test-skrl newcomer lint docs look
.PHONY: format notebooks bench bench-peers clean

train: $(TRAINS)
	$(BIN)/gaussjax train $(ALGORITHM) $(ENV) $(if $(DATASET),--dataset $(DATASET)) --seed $(SEED) --out $(OUT)

# A file runs in one process, which compiles its programs once.
TEST := $(BIN)/python -m pytest -q -n $(JOBS) --dist loadfile --no-loadscope-reorder

test: $(READY)
	$(TEST) -m "not slow"

# The long runs after the others, and the comparison with skrl in an environment of its own.
test-full: test .peers/skrl/.ready
	$(TEST) -m slow

# The quick tests in each of JAX's modes (an hour). The examples in docstrings show JAX's default types.
MODES := JAX_DEBUG_NANS=1 JAX_NUMPY_DTYPE_PROMOTION=strict JAX_ENABLE_X64=1 JAX_CHECK_TRACER_LEAKS=1
MODES += JAX_DEBUG_KEY_REUSE=1 JAX_DISABLE_JIT=1
test-modes: $(READY)
	set -e; for mode in $(MODES); do echo $$mode; env $$mode $(TEST) -m "not slow" tests; done

# Faults of users, machines and files, in full numbers (minutes); the run writes the table of results.
test-faults: $(READY)
	rm -f .faults.jsonl
	FAULTS_RECORD=$(CURDIR)/.faults.jsonl $(BIN)/python -m pytest -q tests/faults tests/training/run/test_checkpoint.py
	$(BIN)/python -m tests.faults.record .faults.jsonl benchmarks/results/faults.md

# The tests of distrax, TFP and torch.distributions with our distributions in their place (half an hour). The folder
# holds the checkouts probability (github.com/tensorflow) and pytorch (github.com/pytorch, tag v2.6.0).
PEER_TESTS ?= .peers/tests
test-peers: .peers/distributions/.ready
	rm -rf .peers/outcomes
	.peers/distributions/bin/python -m tests.peers.run $(PEER_TESTS) --out benchmarks/results/peer_tests.md

# The tests of brax's, gymnax's and Playground's environments, each in an environment of its own.
test-envs: $(patsubst tests/envs/packages/envs-%.txt,test-envs-%,$(wildcard tests/envs/packages/envs-*.txt))

test-envs-%: .peers/envs-%/.ready
	.peers/envs-$*/bin/python -m pytest -q -W ignore tests/envs/packages/test_$*.py

# Trains in the loops of brax, purejaxrl, rejax and Stoix with their policies and with ours (half an hour). The folder
# also holds the checkouts purejaxrl (github.com/luchris429) and Stoix (github.com/EdanToledo).
test-loops: .peers/loops/.ready
	.peers/loops/bin/python -m tests.peers.loops $(PEER_TESTS) --out benchmarks/results/loops.md

# skrl's own tests of agents and models with our models in place of its own (hours). The folder is a checkout of
# github.com/Toni-SM/skrl.
SKRL_TESTS ?= .peers/skrl-tests
test-skrl: .peers/skrl/.ready
	PYTHONPATH=$(CURDIR) .peers/skrl/bin/python tests/parity/skrl_suite.py $(SKRL_TESTS) benchmarks/results/skrl_tests.md

# Tests of the rooms that touch JAX's changing parts, with the oldest jax that pyproject.toml allows.
OLDEST := test_package.py test_dependencies.py spaces random envs rollout training/ppo
test-oldest: .peers/oldest/.ready
	.peers/oldest/bin/python -m pytest -q -W default -m "not slow" $(addprefix tests/,$(OLDEST))

# What newcomers do, each in an empty folder and environment; writes the table of seconds (half an hour).
newcomer: $(READY)
	$(BIN)/python -m tests.newcomer

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports
	$(BIN)/pyright --pythonpath $(BIN)/python

# The pages, into docs/_build/html. Warnings are errors.
docs: $(VENV)/.docs
	$(BIN)/python -m sphinx -b html -W --keep-going -n -q -d docs/_build/doctrees docs docs/_build/html

# Opens every page in Chromium, at the width of a laptop and of a phone. Needs chromium and chromedriver.
look: docs
	$(BIN)/python -m pip install --quiet -c constraints.txt -e ".[look]"
	$(BIN)/python docs/look.py --pictures docs/_build/pictures

$(VENV)/.docs: $(READY)
	$(BIN)/python -m pip install --quiet -c constraints.txt -e ".[docs]"
	touch $@

format: $(READY)
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

# The .ipynb of every notebooks/*.py. Those whose code has changed, or whose NAMES are given, are executed (minutes).
NAMES ?=
notebooks: $(READY)
	$(BIN)/python -m tests.notebooks.pair $(NAMES)

# Measures the page of figures, on an otherwise idle machine (four hours). Repeated, it goes on where it stopped: it keeps
# each result of the present package, and RESUME= measures all of them anew. Trainings of many seeds take days, and each
# is kept when it ends: make bench BENCHMARKS="learning curves exploration cloning_shares".
DEVICE ?= cpu
RESUME ?= --resume
BENCHMARKS ?= main_job startup tuning serving act evaluate population recurrent ppo sac cloning compiled simulators \
	inside seeds scaling footprint
bench: $(READY)
	for name in $(BENCHMARKS); do \
		$(BIN)/python -m benchmarks $$name --device $(DEVICE) $(RESUME) \
			--json benchmarks/results/$$name-$(DEVICE).json || exit 1; \
	done
	$(BIN)/python -m benchmarks report

# An environment for each peer. torch is installed first and alone: its plain pin finds the small build.
bench-peers: $(patsubst benchmarks/peers/%.txt,.peers/%/.ready,$(wildcard benchmarks/peers/*.txt)) .peers/sources/purejaxrl

# purejaxrl is a folder of scripts and no package.
.peers/sources/purejaxrl:
	git clone --quiet https://github.com/luchris429/purejaxrl $@
	git -C $@ checkout --quiet 31756b197773a52db763fdbe6d635e4b46522a73

vpath %.txt benchmarks/peers tests/peers tests/envs/packages tests
.PRECIOUS: .peers/%/.ready
.peers/%/.ready: %.txt
	$(PYTHON) -m venv .peers/$*
	.peers/$*/bin/python -m pip install --quiet --upgrade pip -c constraints.txt
	grep '^torch==' $< | xargs --no-run-if-empty .peers/$*/bin/python -m pip install --quiet
	.peers/$*/bin/python -m pip install --quiet -r $<
	touch $@

# What a training needs, and then what the tests need beside it. Python compiles the modules that are imported; pip would
# compile all modules, into 160 MB.
$(TRAINS): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip -c constraints.txt
	$(BIN)/python -m pip install --quiet --no-compile -c constraints.txt -e ".[train]"
	touch $@

$(READY): $(TRAINS)
	$(BIN)/python -m pip install --quiet --no-compile -c constraints.txt -e ".[train,mujoco,torch,hdf5,minari,dev]"
	touch $@

clean:
	rm -rf $(VENV) docs/_build .jax_cache .peers .faults.jsonl
