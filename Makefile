# make demo   sets everything up and trains the digit classifier
# make test   sets everything up and runs the tests
# Needs python3 (3.11 or newer) with venv, and make. No compiler.

PYTHON ?= python3
DEMO_ARGS ?=
PYTEST_ARGS ?=
BENCH_ARGS ?=
DEVICE ?= cpu

BIN := $(if $(filter Windows_NT,$(OS)),Scripts,bin)
PROJECTS := pyproject.toml $(wildcard plugins/*/pyproject.toml)
PIP_INSTALL := -m pip install --quiet --disable-pip-version-check

DEV := .venv/.stamp
TORCH := .venv-torch/.stamp
INTEROP := .venv-interop/.stamp
OCLGRIND := .venv-oclgrind/.stamp
CUDA := .venv-cuda/.stamp
BENCH := .venv-bench/.stamp
DOCS := .venv-docs/.stamp

.DEFAULT_GOAL := help
.PHONY: help demo test test-device test-torch test-interop test-oclgrind test-cuda lint docs bench clean

help:
	@echo "make demo         train the digit classifier      (DEMO_ARGS=\"--epochs 5\")"
	@echo "make test         run the tests                   (PYTEST_ARGS=\"-k softmax\")"
	@echo "make test-device  run every test that needs a device on one  (DEVICE=opencl)"
	@echo "make test-torch   compare results with PyTorch, in an environment of its own"
	@echo "make test-interop  with other libraries of the array API standard, in an environment of its own"
	@echo "make test-oclgrind  check every access of OpenCL kernels, in an environment of its own (x86-64 Linux)"
	@echo "make test-cuda    conformance, examples and the GPU table beside PyTorch, on a machine with a GPU"
	@echo "make lint         ruff, mypy, import contracts"
	@echo "make docs         the documentation as a site, in build/site"
	@echo "make bench        speed beside other frameworks, in an environment of its own"
	@echo "make clean        remove the environments and caches of this checkout"

demo: $(DEV)
	.venv/$(BIN)/python examples/digits.py $(DEMO_ARGS)

# in the order of the files: the few slow ones start early, and others run beside them
test: $(DEV)
	.venv/$(BIN)/python -m pytest -n auto --dist loadfile --no-loadscope-reorder $(PYTEST_ARGS)

# `worksteal`: files differ much in how many kernels they compile, and workers share what is compiled
test-device: $(DEV)
	.venv/$(BIN)/python -m pytest -n auto --dist worksteal --only-device $(DEVICE) $(PYTEST_ARGS)

# one thread of PyTorch's in each process: the tests run beside each other
test-torch: $(TORCH)
	OMP_NUM_THREADS=1 .venv-torch/$(BIN)/python -m pytest -m torch -n auto $(PYTEST_ARGS)

test-interop: $(INTEROP)
	SCIPY_ARRAY_API=1 .venv-interop/$(BIN)/python -m pytest -m interop -n auto --dist loadfile tests/interop $(PYTEST_ARGS)

test-oclgrind: $(OCLGRIND)
	.venv-oclgrind/$(BIN)/python -m pytest -m oclgrind tests/plugins/opencl/test_oclgrind.py $(PYTEST_ARGS)

# on NVIDIA's GPUs; the figures go to benchmarks/results/cuda-NAME.json. Each part runs although one before failed
test-cuda: $(CUDA)
	@failed=; for part in "-m pluggrad conformance cuda" "-m pytest --only-device cuda tests/examples" \
	  "examples/digits.py --device cuda" "-m benchmarks --set gpu --device cuda $(BENCH_ARGS)"; do \
	  echo "python $$part"; .venv-cuda/$(BIN)/python $$part || failed="$$failed\n  python $$part"; \
	done; [ -z "$$failed" ] || { printf "failed:$$failed\n" >&2; exit 1; }

lint: $(DEV)
	.venv/$(BIN)/python -m ruff check .
	.venv/$(BIN)/python -m mypy
	.venv/$(BIN)/lint-imports

docs: $(DOCS)
	.venv-docs/$(BIN)/python -m mkdocs build --quiet
	@echo "open build/site/index.html"

bench: $(BENCH)
	.venv-bench/$(BIN)/python -m benchmarks $(BENCH_ARGS)

clean:
	rm -rf .venv .venv-torch .venv-interop .venv-oclgrind .venv-cuda .venv-bench .venv-docs .mypy_cache .pytest_cache .ruff_cache .import_linter_cache .hypothesis dist build
	find core plugins tests examples benchmarks -name __pycache__ -type d -prune -exec rm -rf {} + 2>/dev/null || true

# ------------------------------------------------------------------------------------------- environments
# A stamp older than a file it depends on means that its environment has to be brought up to date. Each
# environment is filled by one pip call over all `-e` lines, so that the checkout's parts find each other.

define fail
{ echo "pluggrad: $(1)" >&2; exit 1; }
endef

define environment
@command -v "$(PYTHON)" >/dev/null 2>&1 || $(call fail,Python 3.11 or newer is needed and '$(PYTHON)' was not found. Install it or name another: make PYTHON=python3.12)
@"$(PYTHON)" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || $(call fail,Python 3.11 or newer is needed and '$(PYTHON)' is $$("$(PYTHON)" -V 2>&1). Name a newer one: make PYTHON=python3.12)
@"$(PYTHON)" -c 'import venv; import ensurepip' 2>/dev/null || $(call fail,Python's venv module is needed and '$(PYTHON)' comes without it. On Debian and Ubuntu: apt install python3-venv)
@echo "setting up $(1) from $(2) (the first time this downloads $(3))"
@"$(PYTHON)" -m venv $(1)
@$(1)/$(BIN)/python $(PIP_INSTALL) -r $(2)
endef

$(DEV): requirements-dev.txt $(PROJECTS)
	$(call environment,.venv,requirements-dev.txt,about 370 MB)
	@touch $@

$(TORCH): requirements-torch.txt requirements-dev.txt $(PROJECTS)
	$(call environment,.venv-torch,requirements-torch.txt,PyTorch as well)
	@touch $@

$(INTEROP): requirements-interop.txt requirements-dev.txt $(PROJECTS)
	$(call environment,.venv-interop,requirements-interop.txt,scikit-learn and others as well)
	@touch $@

$(OCLGRIND): requirements-oclgrind.txt $(PROJECTS)
	$(call environment,.venv-oclgrind,requirements-oclgrind.txt,about 70 MB)
	@touch $@

$(CUDA): requirements-cuda.txt requirements-dev.txt $(PROJECTS)
	$(call environment,.venv-cuda,requirements-cuda.txt,PyTorch and pycuda as well)
	@touch $@

$(DOCS): requirements-docs.txt pyproject.toml
	$(call environment,.venv-docs,requirements-docs.txt,about 50 MB)
	@touch $@

# A peer that cannot be installed is named and left out; the next `make bench` tries again.
$(BENCH): requirements-bench.txt requirements-dev.txt $(PROJECTS)
	$(call environment,.venv-bench,requirements-dev.txt,the peers as well)
	@complete=yes; \
	for peer in $$(grep -v '^#' requirements-bench.txt); do \
	  echo "installing $$peer"; \
	  .venv-bench/$(BIN)/python $(PIP_INSTALL) "$$peer" || { \
	    complete=; echo "$$peer could not be installed: floors against it count as not met" >&2; }; \
	done; \
	if [ -n "$$complete" ]; then touch $@; fi
