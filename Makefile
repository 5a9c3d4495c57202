# Two commands: `make demo` and `make test`.  Both make their own environment in .venv.
VENV ?= .venv
BIN = $(VENV)/bin

# The first Python of 3.10 to 3.13 that runs; a shim that exists and does not run is passed over.
PYTHON ?= $(shell for p in python3 python3.12 python3.13 python3.11 python3.10; do \
	$$p -c 'import sys; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 13))' 2>/dev/null && echo $$p && break; done)

CKPT = models/streets/isanet_r18w16_streets.pth
DEMO = demo-out

# Where the C++ runtime is built, and what is passed on to cmake
CPP_BUILD ?= build/runtime
CPP_FLAGS ?=
CPP_FILES = $(shell find runtime -name '*.[ch]' -o -name '*.[ch]pp' -o -name '*.inc')

# Wheels for a GPU machine without a network: benchmarks/gpu/wheels.py fills the folder
GPU_WHEELS ?= .wheels

.PHONY: demo test cpp cpp-plain lint format train gpu clean help

help:
	@echo "make demo    export the demo model, run it on the demo clip, compare with torch"
	@echo "make test    lint, type checks and all tests"
	@echo "make cpp     build the C++ runtime in $(CPP_BUILD) and test it, also under sanitizers"
	@echo "make lint    ruff, mypy --strict and clang-format"
	@echo "make train   train the demo model again (under 45 minutes on two cores)"
	@echo "make gpu     what only a GPU can prove, in under 8 minutes (wheels from $(GPU_WHEELS))"
	@echo "make clean   remove the environment and what the demo made"

$(VENV)/created:
	@test -n "$(PYTHON)" || { echo "make: no Python 3.10 to 3.13 found; install one, or give PYTHON=/path/to/python"; exit 2; }
	@$(PYTHON) -c 'import ensurepip' || { echo "make: $(PYTHON) has no venv; on Debian and Ubuntu: apt install python3-venv"; exit 2; }
	$(PYTHON) -m venv $(VENV)
	@touch $@

$(VENV)/demo: $(VENV)/created pyproject.toml constraints.txt
	$(BIN)/python -m pip install -q --disable-pip-version-check -c constraints.txt -e '.[export,cpu,video]'
	@touch $@

$(VENV)/dev: $(VENV)/demo
	$(BIN)/python -m pip install -q --disable-pip-version-check -c constraints.txt -e '.[export,cpu,video,dev]'
	@touch $@

# NVIDIA's own Python bindings, for tests to look at; what cannot be had is skipped by its tests, and tried
# again next time
$(VENV)/genuine: $(VENV)/dev tests/genuine/fetch.py tests/genuine/stub.c $(wildcard tests/genuine/requirements-*.txt)
	@$(BIN)/python tests/genuine/fetch.py --into $(VENV)/genuine-api
	@ls $(VENV)/genuine-api/*.unavailable >/dev/null 2>&1 || touch $@

demo: $(VENV)/demo
	@mkdir -p $(DEMO)
	$(BIN)/isa-export --ckpt $(CKPT) --out $(DEMO)/engine
	$(BIN)/python models/streets/clip.py --out $(DEMO)/clip.mp4
	$(BIN)/python models/streets/clip.py --stills 1 --out $(DEMO)/stills
	$(BIN)/isa-infer $(DEMO)/clip.mp4 $(DEMO)/stills --engine $(DEMO)/engine --out $(DEMO)/result --legend --mask
	@echo
	@$(BIN)/python benchmarks/frame_rate.py --ckpt $(CKPT) --engine $(DEMO)/engine --sizes 256x512 512x1024
	@echo "video:   $$(ls $(DEMO)/result/*overlay.mp4)"
	@echo "picture: $$(ls $(DEMO)/result/*overlay.png)"
	@echo "report:  $(DEMO)/engine/report.html"

lint: $(VENV)/dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/clang-format --dry-run -Werror $(CPP_FILES)

# The C++ runtime with the backends whose libraries are here, its tests, and both again under sanitizers
cpp: $(VENV)/dev
	@$(BIN)/python runtime/tests/build_and_test.py --into $(CPP_BUILD) $(CPP_FLAGS)

# ... without the sanitizers, which take as long again three times
cpp-plain: $(VENV)/dev
	@$(BIN)/python runtime/tests/build_and_test.py --into $(CPP_BUILD) --only plain $(CPP_FLAGS)

# three workers on two cores: tests also wait, for processes and clocks
test: lint cpp-plain $(VENV)/genuine
	$(BIN)/python -m pytest -n 3 --dist loadfile

format: $(VENV)/dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
	$(BIN)/clang-format -i $(CPP_FILES)

train: $(VENV)/demo
	$(BIN)/python models/streets/train.py

# With the Python that is there, not .venv: a bare GPU machine has its own torch.  Exit code 2: no GPU
gpu:
	$(PYTHON) benchmarks/gpu --wheels $(GPU_WHEELS)

clean:
	rm -rf $(VENV) $(DEMO) build *.egg-info
