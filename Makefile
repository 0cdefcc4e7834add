# liveswap on a fresh machine: `make demo` and `make test` need python3 (3.11 or newer) and make; the rest goes into .venv.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
OUT ?= out

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help setup demo test check audit clean

help:
	@echo "make setup   .venv with the liveswap command in it (second runs skip this)"
	@echo "make demo    setup, then the whole product on two rendered actors: $(OUT)/demo.mp4, sheet.png, report.json"
	@echo "make test    setup, then the tests"
	@echo "make check   setup, then formatting, lint, types, import contracts and tests: what CI runs"
	@echo "make audit   ask the advisory database of PyPI about the pinned packages; needs the network"
	@echo "make clean   remove .venv and the caches of the checks"

setup: $(READY)
	@:

demo: setup
	$(BIN)/liveswap demo --out $(OUT)

test: setup
	$(BIN)/python -m pytest

check: setup
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python -m pytest

audit: setup
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt pip-audit
	$(BIN)/pip-audit --strict --requirement constraints.txt --no-deps --disable-pip

clean:
	rm -rf $(VENV) build *.egg-info .mypy_cache .pytest_cache .ruff_cache .import_linter_cache .hypothesis

# Says in one sentence what the system lacks. opencv-python brings almost everything, but not these three libraries.
define CHECK_SYSTEM
import ctypes, importlib.util, sys

if sys.version_info < (3, 11):
    sys.exit("make: liveswap needs Python 3.11 or newer and %s is %d.%d; install a newer one and run make PYTHON=python3.12"
             % (sys.executable, sys.version_info[0], sys.version_info[1]))
missing = []
if any(importlib.util.find_spec(name) is None for name in ("venv", "ensurepip")):
    missing.append("python3-venv")
if sys.platform.startswith("linux"):
    libraries = {"libGL.so.1": "libgl1", "libgthread-2.0.so.0": "libglib2.0-0", "libxcb.so.1": "libxcb1", "libSM.so.6": "libsm6"}
    for library, package in libraries.items():
        try:
            ctypes.CDLL(library)
        except OSError:
            missing.append(package)
if missing:
    sys.exit("make: this system lacks what Python and OpenCV need; as root, run: apt-get update && apt-get install "
             + " ".join(missing))
endef
export CHECK_SYSTEM

$(READY): pyproject.toml constraints.txt
	@command -v $(PYTHON) >/dev/null || { echo "make: there is no $(PYTHON); install it with: apt-get install python3" >&2; exit 1; }
	@$(PYTHON) -c "$$CHECK_SYSTEM"
	@$(BIN)/python -c "" 2>/dev/null || { rm -rf $(VENV) && $(PYTHON) -m venv $(VENV); }
	@echo "make: installing into $(VENV); this takes a minute or two, and some gigabytes where torch brings CUDA"
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e ".[train,export,vcam,dev]" -c constraints.txt
	@touch $@
