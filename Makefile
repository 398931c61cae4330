# Every command of this project. `make` alone lists them.
#
# They work on a fresh Debian machine that has Python 3.11 or newer, git and make, as root; without root, `make env`
# names the Debian packages to ask for. Nothing reads from a terminal.

PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin

# What exists of the two packages; the other parts of the house join by being there.
PACKAGES := $(patsubst %/__init__.py,%,$(wildcard ppl_jax/__init__.py ppx/__init__.py))
LINTED   := $(PACKAGES) $(wildcard tests benchmarks examples)

# The environment is refreshed when pyproject.toml or what is compiled changes, or a package appears (editable installs
# list packages).
COMPILED := setup.py $(wildcard ppl_jax/distributions/*.c ppx/cpp/core/samplers.c ppx/cpp/core/random.[ch])
STAMP := $(VENV)/.installed-$(shell { cat pyproject.toml $(COMPILED); echo $(PACKAGES); } | cksum | cut -d' ' -f1)

CPP_PREFIX := $(CURDIR)/build/prefix

SHELL := /bin/bash
export JAX_COMPILATION_CACHE_DIR := $(CURDIR)/build/jax-cache
# The tests' functions compile in less than the second below which JAX keeps nothing.
export JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS := 0.2
export MPLBACKEND := Agg
export PIP_DISABLE_PIP_VERSION_CHECK := 1
unexport PYTHONPATH

.DEFAULT_GOAL := help
.PHONY: help env system-packages build sherpa pythia lint test test-all demo demo-track bench clean distclean

help: ## list the commands
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

env: system-packages $(STAMP) ## make or refresh .venv and install what is missing (PYTHON=... chooses the interpreter)

# Each line: a command that succeeds when the thing is there, and the Debian package that brings it. Without a package marked
# "optional" everything works but the example and the test that need it.
define SYSTEM_NEEDS
command -v cmake : cmake
command -v c++ : g++
command -v flatc : flatbuffers-compiler
echo '#include <zmq.h>' | c++ -E -x c++ - : libzmq3-dev
echo '#include <flatbuffers/base.h>' | c++ -E -x c++ - : libflatbuffers-dev
test -x $(BIN)/python || $(PYTHON) -c 'import venv, ensurepip' : python3-venv
$(PYTHON) -c 'import os, sysconfig; os.stat(sysconfig.get_paths()["include"] + "/Python.h")' : python3-dev optional
command -v gfortran : gfortran optional
command -v pkg-config : pkgconf optional
echo '#include <xtensor/xarray.hpp>' | c++ -E -x c++ - : libxtensor-dev optional
endef
export SYSTEM_NEEDS

system-packages:
	@missing= optional=; \
	while IFS= read -r line; do \
	    if sh -c "$${line%% : *}" >/dev/null 2>&1 </dev/null; then continue; fi; \
	    package=$${line##* : }; \
	    case $$package in *" optional") optional="$$optional $${package% *}";; *) missing="$$missing $$package";; esac; \
	done <<< "$$SYSTEM_NEEDS"; \
	if [ -z "$$missing$$optional" ]; then exit 0; fi; \
	if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
	    echo "env: installing Debian packages:$$missing$$optional"; \
	    export DEBIAN_FRONTEND=noninteractive; \
	    apt-get update -qq </dev/null && \
	        apt-get install -y -qq --no-install-recommends -o DPkg::Lock::Timeout=300 $$missing $$optional \
	            </dev/null >/dev/null; \
	elif [ -n "$$missing" ]; then \
	    echo "env: these Debian packages are missing:$$missing (of use too:$$optional)" >&2; \
	    echo "env: install them (as root: apt-get install$$missing$$optional) and run make again." >&2; \
	    exit 1; \
	fi

$(STAMP):
	@if [ ! -x $(BIN)/python ]; then \
	    $(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	        { echo "env: Python 3.11 or newer is needed, $(PYTHON) is older; say make PYTHON=python3.11" >&2; exit 1; }; \
	    echo "env: making $(VENV) with $$($(PYTHON) --version)"; \
	    $(PYTHON) -m venv $(VENV); \
	fi
	@echo "env: installing this project, editable, with the extra dev (what tests, ruff and mypy need)"
	@$(BIN)/python -m pip install --quiet --editable '.[dev]' </dev/null
	@rm -f $(VENV)/.installed-* && touch $@

# Configures, builds and installs one CMake project: $(1) its folder, $(2) its build folder. The examples find the front
# end as a user's simulator would, installed.
define cmake_project
if [ -f $(1)/CMakeLists.txt ]; then \
    mkdir -p $(2) && \
    { cmake -S $(1) -B $(2) -DCMAKE_BUILD_TYPE=Release -DCMAKE_PREFIX_PATH=$(CPP_PREFIX) \
        -DCMAKE_INSTALL_PREFIX=$(CPP_PREFIX) >$(2)/configure.log 2>&1 || { cat $(2)/configure.log >&2; exit 1; }; } && \
    cmake --build $(2) --parallel "$$(nproc)"; \
fi
endef

build: env ## build the C++ front end (build/cpp, installed in build/prefix) and the C++ examples (build/examples)
	@$(call cmake_project,ppx/cpp,build/cpp)
	@if [ -f build/cpp/cmake_install.cmake ]; then cmake --install build/cpp >build/cpp/install.log; fi
	@$(call cmake_project,examples,build/examples)

# Sherpa and Pythia are under the GPL, and the simulators that link them too: see README.md in their folders.
sherpa: build ## fetch the event generator Sherpa (build/sherpa) and build its simulator of tau decays (build/sherpa_tau)
	@examples/sherpa_tau/fetch_sherpa.sh build/sherpa $(BIN)/python
	@$(call cmake_project,examples/sherpa_tau,build/sherpa_tau)

pythia: build ## fetch the event generator Pythia 8 (build/pythia), build it (minutes) and its tau decays (build/pythia_tau)
	@examples/pythia_tau/fetch_pythia.sh build/pythia $(BIN)/python
	@$(call cmake_project,examples/pythia_tau,build/pythia_tau)

lint: env ## ruff (rules and format) and mypy
	$(BIN)/ruff check $(LINTED)
	$(BIN)/ruff format --check --quiet $(LINTED)
	$(BIN)/mypy $(PACKAGES)

# Whole files go to a process, because the tests of a file share what is slow to make: trained networks, compiled functions.
# There is a process more than there are cores: many tests wait.
PARALLEL ?= -n $(shell echo $$(($$(nproc) + 1))) --dist loadfile

test: lint build ## what continuous integration runs: lint, types, the tests that take seconds
	$(BIN)/python -m pytest $(PARALLEL)

test-all: lint build ## the deep checks too (minutes)
	$(BIN)/python -m pytest $(PARALLEL) -m "slow or not slow"

# What may be scaled: EVENTS that Sherpa simulates for training, HOURS of training and inference on two cores, the GRID.
DEMO_OPTIONS = $(if $(EVENTS),--events $(EVENTS)) $(if $(HOURS),--hours $(HOURS)) $(if $(GRID),--grid $(GRID))

demo: sherpa ## the example to see first: the event generator Sherpa, inverted (ten minutes; page in build/demo; EVENTS= HOURS= GRID=)
	$(BIN)/python examples/sherpa_tau/demo.py $(DEMO_OPTIONS)

demo-track: build ## a smaller one: a C++ particle detector, inverted by three engines (two minutes; pictures in build/demo-track)
	$(BIN)/python examples/track/demo.py --output build/demo-track

bench: sherpa ## time this project, beside the peer where it can be installed
	$(BIN)/python benchmarks/run.py
	$(BIN)/python benchmarks/ppx/remote.py
	$(BIN)/python benchmarks/data/dataset.py
	$(BIN)/python benchmarks/ic.py
	$(BIN)/python benchmarks/sherpa.py

clean: ## remove what the commands above left in build/, the peer's environment apart
	@for path in build/* build/.[!.]*; do [ "$$path" = build/peer-venv ] || rm -rf "$$path"; done
	@rm -rf dist *.egg-info .hypothesis
	@find . -path ./$(VENV) -prune -o -path ./build -prune -o -name __pycache__ -type d -prune -exec rm -rf {} +

distclean: clean ## remove the environments as well
	rm -rf $(VENV) build
