# `make help` lists what there is. Everything runs in .venv; the stamps in it hold what each step was done with, so a
# step is repeated when its inputs or its settings change, and only then.

PYTHON ?= python3
TORCH ?= torch==2.13.0
TORCH_INDEX ?=
DEVICE ?=
ARGS ?=
VENV := .venv
PY := $(VENV)/bin/python

CXX_FILES = $(shell find csrc tests \( -name '*.h' -o -name '*.cpp' -o -name '*.cu' -o -name '*.cuh' \))
BUILD_INPUTS = setup.py $(shell find build_support -name '*.py') $(shell find csrc -type f)
BUILT_AS := torch_np_bridge/_build_info.py

INSTALL_KEY := $(TORCH) $(TORCH_INDEX)
CHOSEN_CXX := $(if $(filter default,$(origin CXX)),,$(CXX))
BUILD_KEY := $(TORCH_NP_BRIDGE_NATIVE)|$(TORCH_NP_BRIDGE_CUDA)|$(CUDA_HOME)|$(CHOSEN_CXX)|$(shell command -v nvcc)
# FORCE where stamp $(1) was written with another setting than $(2), nothing otherwise.
stale = $(if $(filter-out [$(subst $() ,_,$(2))],[$(subst $() ,_,$(shell cat $(1) 2>/dev/null))]),FORCE)
# What was missing for the native engine may be there by now: asking costs seconds.
FELL_BACK = $(shell grep -qs 'BUILT_FOR_TORCH.*= None' $(BUILT_AS) && echo FORCE)

.PHONY: help demo test stress soak kernels ptxas bench report counts growth docs build lint format mutants sanitize wheel sdist clean FORCE
.DEFAULT_GOAL := help

help: ## this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-9s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)
	@echo "Settings: PYTHON=$(PYTHON), TORCH='$(TORCH)' (what pip installs), TORCH_INDEX= (the package index to take it"
	@echo "from), ARGS= (more arguments for demo, test, bench and mutants), TORCH_NP_BRIDGE_NATIVE=auto|0|1 and"
	@echo "TORCH_NP_BRIDGE_CUDA=auto|0|1 (what is built). An NVIDIA GPU or a compiler is used where there is one."

demo: DEMO_ON = $(if $(DEVICE),--device $(DEVICE) $(if $(filter fake,$(DEVICE)),--load fake_device))
demo: build ## the main job on real images, compared with .cpu().numpy(); DEVICE=fake: on the simulated accelerator
	$(if $(filter fake,$(DEVICE)),PYTHONPATH=tests )$(PY) -m torch_np_bridge demo $(DEMO_ON) $(ARGS)

test: build ## the whole suite; TNB_REQUIRE=native,fake,cuda turns the absence of one into a failure
	$(PY) -m pytest -q $(ARGS)

stress: build ## 100,000 random transfers on the simulated accelerator; TNB_STRESS_SEED repeats an earlier run's choices
	TNB_STRESS_TRANSFERS=100000 $(PY) -m pytest -q -o faulthandler_timeout=0 tests/test_stress.py

soak: build ## ten million of them, or MINUTES=60; DEVICE=cuda: on a GPU
	OMP_NUM_THREADS=1 PYTHONPATH=.:tests $(PY) -X faulthandler -m stress $(if $(MINUTES),--minutes $(MINUTES)) \
	    $(if $(DEVICE),--device $(DEVICE)) $(ARGS)

kernels: build ## the CUDA kernels' source, run on the CPU under ASan and UBSan: 100,000 random layouts; ARGS='--seed N' repeats one
	PYTHONPATH=.:tests $(PY) -m kernel_on_cpu 100000 --sanitized $(ARGS)

ptxas: $(VENV)/.installed ## registers, spills and shared memory of the kernels; a spill is a failure; needs nvcc
	$(PY) scripts/ptxas.py

# Without an accelerator the host's side is measured, on the simulated one, which needs a compiler.
BENCH_ON = import os, shutil, torch; print("" if torch.accelerator.is_available() else \
    "fake" if shutil.which((os.environ.get("CXX") or "g++").split()[0]) else "cpu")

bench: build ## measure this machine, in some minutes; DEVICE=cpu or fake: the CPU, or the host's side on the simulated accelerator
	@device=$(if $(DEVICE),$(DEVICE),$$($(PY) -c '$(BENCH_ON)')); \
	set -- $${device:+--device $$device}; \
	if [ "$$device" = fake ]; then export PYTHONPATH=tests; set -- "$$@" --load fake_device; fi; \
	$(PY) -m torch_np_bridge bench "$$@" $(ARGS)

report: build ## README's table and picture and the tables of docs/benchmarks.md, from benchmarks/results
	$(PY) benchmarks/report.py

counts: build ## instructions, allocations and calls of the device, beside those recorded; ARGS=--record writes them; needs valgrind
	PYTHONPATH=.:benchmarks:tests $(PY) -m counts $(ARGS)

growth: build ## how a call grows with leaves, bytes, threads, devices and time: files, picture and page; MINUTES=60 of a steady loop
	missed=0; export PYTHONPATH=.:benchmarks:tests; \
	$(PY) -m growth --json benchmarks/growth/measured.json || missed=$$?; \
	$(PY) -m growth.steady $(if $(MINUTES),--minutes $(MINUTES)) --json benchmarks/growth/steady.json || missed=$$?; \
	$(PY) -m growth.page && exit $$missed

docs: build ## build/docs/index.html: what is generated in docs, the code of each page run, the pages made; a warning is a failure
	$(PY) scripts/timeline.py
	$(PY) benchmarks/report.py
	PYTHONPATH=.:benchmarks $(PY) -m growth.page
	$(PY) -m pytest -q tests/test_pages.py
	$(PY) -m sphinx -q -E -W --keep-going -b html docs build/docs

build: $(VENV)/.built ## the package in place, with the native engine where it can be built

lint: $(VENV)/.installed ## what has to be clean: ruff, mypy --strict, clang-format
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .
	$(PY) -m mypy
	$(VENV)/bin/clang-format --dry-run --Werror $(CXX_FILES)

format: $(VENV)/.installed ## let ruff and clang-format rewrite the sources
	$(PY) -m ruff check --fix .
	$(PY) -m ruff format .
	$(VENV)/bin/clang-format -i $(CXX_FILES)

mutants: $(VENV)/.installed ## remove each guarding line in a copy; a test has to notice
	$(PY) scripts/mutants.py $(ARGS)

sanitize: $(VENV)/.installed ## the tests under ASan, UBSan and TSan, in copies; ARGS='--only core' for a part; half an hour
	$(PY) scripts/sanitize.py $(ARGS)

# The native one last: each writes down, beside the sources, what it was built as.
wheel: $(VENV)/.built ## dist/*.whl: the pure Python one, and the native one for the torch in .venv
	TORCH_NP_BRIDGE_NATIVE=0 TORCH_NP_BRIDGE_CUDA=0 $(PY) -m pip wheel -q --no-build-isolation --no-deps --wheel-dir dist .
	PATH="$(CURDIR)/$(VENV)/bin:$$PATH" CFLAGS="$$CFLAGS -Werror" $(PY) -m pip wheel -q --no-build-isolation --no-deps --wheel-dir dist .

sdist: $(VENV)/.installed ## dist/*.tar.gz
	$(PY) setup.py -q sdist --dist-dir dist

clean: ## remove what was built; .venv stays
	rm -rf build dist *.egg-info $(BUILT_AS) torch_np_bridge/_C.*so .mypy_cache .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -not -path './$(VENV)/*' -prune -exec rm -rf {} +

$(VENV)/.python: $(call stale,$(VENV)/.python,$(PYTHON))
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	    { echo "expected Python 3.11 or newer, got $$($(PYTHON) --version 2>&1); name another: make PYTHON=..."; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || \
	    { echo "$(PYTHON) cannot make virtual environments; on Debian: apt-get install python3-venv"; exit 1; }
	$(PYTHON) -m venv --clear $(VENV)
	@echo '$(PYTHON)' > $@

# Without the extension here: it is built by the next step, where one can watch it.
$(VENV)/.installed: $(VENV)/.python pyproject.toml $(call stale,$(VENV)/.installed,$(INSTALL_KEY))
	$(PY) -m pip install --disable-pip-version-check $(if $(TORCH_INDEX),--index-url $(TORCH_INDEX)) $(TORCH)
	TORCH_NP_BRIDGE_NATIVE=0 TORCH_NP_BRIDGE_CUDA=0 $(PY) -m pip install -q --disable-pip-version-check \
	    --no-build-isolation --editable '.[dev]'
	@echo '$(INSTALL_KEY)' > $@

# The PATH is for ninja, which compiles several files at once and only what has changed.
# Whoever built by hand since wrote a newer BUILT_AS, so ours is done again.
$(VENV)/.built: $(VENV)/.installed $(BUILD_INPUTS) $(BUILT_AS) $(call stale,$(VENV)/.built,$(BUILD_KEY)) $(FELL_BACK)
	PATH="$(CURDIR)/$(VENV)/bin:$$PATH" CFLAGS="$$CFLAGS -Werror" $(PY) setup.py build_ext --inplace
	@echo '$(BUILD_KEY)' > $@

$(BUILT_AS): ;

FORCE:
