# Two commands do all the set-up on a fresh machine with Python 3.11: `make demo` and `make test`.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV := .venv
BIN := $(VENV)/bin
TORCH_VENV := .venv-pytorch
TVM_VENV := .venv-tvm
TENSORFLOW_VENV := .venv-tensorflow
# Two packages run TFLite models, and one of them needs an old NumPy
TFLITE_VENVS := .venv-litert .venv-tflite
TFLITE_.venv-litert := -c agent/runtimes/tflite/requirements.lock ai-edge-litert numpy
TFLITE_.venv-tflite := -c agent/runtimes/tflite/requirements-tflite-runtime.lock tflite-runtime numpy
NCNN_VENV := .venv-ncnn
# On Linux, plain PyPI serves a CUDA build of torch; a CPU build is enough for the tests:
#   make test PIP_TORCH_ARGS="--index-url https://download.pytorch.org/whl/cpu"
TORCH ?= $(shell grep -o '^torch==[0-9.]*' agent/runtimes/pytorch/requirements.lock)
PIP_TORCH_ARGS ?=
PYTEST_ARGS ?= -n 2
HTML ?= report.html

export BENCHFARM_PYTORCH_PYTHON ?= $(CURDIR)/$(TORCH_VENV)/bin/python
export BENCHFARM_TVM_PYTHON ?= $(CURDIR)/$(TVM_VENV)/bin/python
export BENCHFARM_TENSORFLOW_PYTHON ?= $(CURDIR)/$(TENSORFLOW_VENV)/bin/python
export BENCHFARM_LITERT_PYTHON ?= $(CURDIR)/.venv-litert/bin/python
export BENCHFARM_TFLITE_PYTHON ?= $(CURDIR)/.venv-tflite/bin/python
export BENCHFARM_EXECUTORCH_PYTHON ?= $(CURDIR)/$(TORCH_VENV)/bin/python
export BENCHFARM_LITERT_TORCH_PYTHON ?= $(CURDIR)/$(TORCH_VENV)/bin/python
export BENCHFARM_NCNN_PYTHON ?= $(CURDIR)/$(NCNN_VENV)/bin/python

.DEFAULT_GOAL := help
.PHONY: help demo test test-farm chaos storm farm-up farm-down lint lock audit format bench pytorch tvm tensorflow tflite ncnn clean

help: ## What there is to make
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*##/\t/' | expand -t 12

demo: $(VENV)/.demo ## Set up, then run the main job on this machine; writes report.html
	$(BIN)/benchfarm --home .benchfarm/demo demo --html $(HTML)

test: lint $(TORCH_VENV)/.done $(TVM_VENV)/.done $(TENSORFLOW_VENV)/.done $(TFLITE_VENVS:=/.done) $(NCNN_VENV)/.done ## Set up, lint, then every test
	$(BIN)/python -m pytest $(PYTEST_ARGS)

test-farm: $(VENV)/.dev ## Only the tests on boards under systemd-nspawn; needs root
	BENCHFARM_REQUIRE=nspawn,redis $(BIN)/python -m pytest tests/boards

chaos: $(VENV)/.dev ## Faults into a real farm for half an hour; CHAOS_ARGS="--minutes 5 --seed 7" replays
	$(BIN)/python -m tests.chaos $(CHAOS_ARGS)

storm: $(VENV)/.dev ## Many played boards on one controller under faults; STORM_ARGS="--boards 1000 --trials 100000"
	$(BIN)/python -m benchmarks.storm $(STORM_ARGS)

farm-up: $(VENV)/.dev ## Three such boards to play with, until farm-down; BOARDS="a b:arm64" for others
	$(BIN)/python -m tests.farm up $(BOARDS)

farm-down: $(VENV)/.dev ## Take them away
	$(BIN)/python -m tests.farm down

lint: $(VENV)/.dev ## Style, types, and which way imports run
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

lock: $(VENV)/.dev ## Write the lock files anew; LOCK_ARGS=--upgrade takes the newest versions
	$(BIN)/python -m pip install -q 'uv>=0.13.9'
	PATH="$(CURDIR)/$(BIN):$$PATH" PYTHONPATH=. $(BIN)/python requirements/lock.py $(LOCK_ARGS)

audit: $(VENV)/.dev ## Known holes of every locked version; asks pypi.org, and fails where it cannot
	$(BIN)/python -m pip install -q 'pip-audit>=2.10.1'
	PYTHONPATH=. $(BIN)/python requirements/audit.py $(AUDIT_ARGS)

format: $(VENV)/.dev ## Put the code into shape
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(VENV)/.dev $(TORCH_VENV)/.done $(TVM_VENV)/.done $(TENSORFLOW_VENV)/.done $(TFLITE_VENVS:=/.done) ## Every benchmark; exits 1 if a goal is missed
	$(BIN)/python -m benchmarks

pytorch: $(TORCH_VENV)/.done ## The runtime environment that has torch, ExecuTorch and litert-torch

tvm: $(TVM_VENV)/.done ## The runtime environment that has TVM

tensorflow: $(TENSORFLOW_VENV)/.done ## The runtime environment that has TensorFlow and Keras

tflite: $(TFLITE_VENVS:=/.done) ## The runtime environments that have LiteRT and tflite-runtime

ncnn: $(NCNN_VENV)/.done ## The runtime environment that has ncnn

$(VENV)/bin/python:
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "benchfarm needs Python 3.11 or newer: make PYTHON=...")'
	$(PYTHON) -m venv $(VENV)

# what the lock files name, by its hash, and nothing else; benchfarm itself has none
$(VENV)/.demo: pyproject.toml requirements/controller.lock | $(VENV)/bin/python
	$(BIN)/python -m pip install -q --no-deps -e .
	$(BIN)/python -m pip install -q -r requirements/controller.lock
	@touch $@

$(VENV)/.dev: pyproject.toml requirements/dev.lock | $(VENV)/bin/python
	$(BIN)/python -m pip install -q --no-deps -e .
	$(BIN)/python -m pip install -q -r requirements/dev.lock
	@touch $@ $(VENV)/.demo

# torch first and alone: pip then takes the build that was asked for, and no other. The rest goes
# beside one torch here, for it takes most of the room; elsewhere each has an environment of its own
$(TORCH_VENV)/.done: pyproject.toml agent/runtimes/pytorch/requirements.lock | $(VENV)/bin/python
	$(PYTHON) -m venv $(TORCH_VENV)
	$(TORCH_VENV)/bin/python -m pip install -q $(PIP_TORCH_ARGS) $(TORCH)
	$(TORCH_VENV)/bin/python -m pip install -q -c agent/runtimes/pytorch/requirements.lock $(TORCH) numpy onnx \
		onnxruntime onnxscript scikit-learn executorch litert-torch
	$(TORCH_VENV)/bin/python -m pip install -q --no-deps -e .
	@touch $@

# onnxruntime is what makes int8 for TVM
$(TVM_VENV)/.done: pyproject.toml agent/runtimes/tvm/requirements.lock | $(VENV)/bin/python
	$(PYTHON) -m venv $(TVM_VENV)
	$(TVM_VENV)/bin/python -m pip install -q -c agent/runtimes/tvm/requirements.lock apache-tvm \
		apache-tvm-ffi onnx onnxruntime numpy psutil cloudpickle \
		'xgboost-cpu; platform_machine == "x86_64"' 'xgboost; platform_machine != "x86_64"'
	@touch $@

# tensorflow-cpu has no build for ARM; plain tensorflow has, with no CUDA in it
$(TENSORFLOW_VENV)/.done: pyproject.toml agent/runtimes/tensorflow/requirements.lock | $(VENV)/bin/python
	$(PYTHON) -m venv $(TENSORFLOW_VENV)
	$(TENSORFLOW_VENV)/bin/python -m pip install -q -c agent/runtimes/tensorflow/requirements.lock tf2onnx onnx \
		numpy 'tensorflow-cpu; platform_machine != "aarch64"' \
		'tensorflow; platform_machine == "aarch64"'
	@touch $@

$(TFLITE_VENVS:=/.done): %/.done: pyproject.toml agent/runtimes/tflite/requirements.lock \
		agent/runtimes/tflite/requirements-tflite-runtime.lock | $(VENV)/bin/python
	$(PYTHON) -m venv $*
	$*/bin/python -m pip install -q $(TFLITE_$*)
	@touch $@

# pnnx says that it needs torch: its Python does, its program does not
$(NCNN_VENV)/.done: pyproject.toml agent/runtimes/ncnn/requirements.lock | $(VENV)/bin/python
	$(PYTHON) -m venv $(NCNN_VENV)
	$(NCNN_VENV)/bin/python -m pip install -q -c agent/runtimes/ncnn/requirements.lock ncnn numpy
	$(NCNN_VENV)/bin/python -m pip install -q --no-deps pnnx==20261020
	@touch $@

clean: ## Remove environments and what the demo left
	rm -rf $(VENV) $(TORCH_VENV) $(TVM_VENV) $(TENSORFLOW_VENV) $(TFLITE_VENVS) $(NCNN_VENV) .benchfarm report.html .mypy_cache .ruff_cache .pytest_cache
