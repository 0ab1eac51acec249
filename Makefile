# `make` lists the targets. Each does its own set-up; Python 3.11+, git and make are enough to start.
#
#   make demo DEMO_ARGS="--frames 200"      arguments for `isac run`
#   make test PYTEST_ARGS="-k waveform"     arguments for pytest
#   make bench BENCH_ARGS="fft --save"      arguments for the benchmarks
#   make test PYTHON=python3.12             the interpreter .venv is made from
#   make interop-uhd UHD_PYTHON=...         the distribution's, for which it packages UHD

DEMO_ARGS ?=
PYTEST_ARGS ?=
BENCH_ARGS ?=

# The first interpreter that is new enough; looked up only where it is needed.
PYTHON ?= $(shell for p in python3 python3.11 python3.12 python3.13 python3.14; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && { echo $$p; exit; }; done; echo python3)

# System packages that only some tests use: libiio and its tools for the Pluto driver, a browser to open the HTML report
# in, GNU Radio as a peer of the emulator's raw ports and of the virtual Pluto.
SYSTEM_PACKAGES := libiio0 libiio-utils chromium gnuradio

# UHD's Python module, which distributions build for their own Python and NumPy 1, and what its simulator needs.
UHD_PYTHON ?= /usr/bin/python3
UHD_PACKAGES := python3-venv python3-uhd uhd-host \
	python3-gevent python3-msgpack python3-netaddr python3-pyroute2 python3-pyudev python3-six python3-systemd

VENV := .venv
BIN := $(VENV)/bin
STAMP_RUN := $(VENV)/.stamp-run
STAMP_DEV := $(VENV)/.stamp-dev
UNFINISHED := $(VENV)/.unfinished
VENV_UHD := .venv-uhd
STAMP_UHD := $(VENV_UHD)/.stamp

.DEFAULT_GOAL := help
.NOTPARALLEL:
.PHONY: help demo test deps bench soak interop interop-uhd lint format clean

# Scripts in .venv hold absolute paths and .venv points at an interpreter. If the checkout was moved or copied, or the
# interpreter is gone, the stamps are worth nothing and .venv is made anew.
ifneq ($(wildcard $(STAMP_RUN)),)
ifneq ($(shell cat $(STAMP_RUN)):$(shell $(BIN)/python -c 'print("works")' 2>/dev/null),$(CURDIR):works)
$(shell rm -f $(STAMP_RUN) $(STAMP_DEV); touch $(UNFINISHED))
endif
endif

ifneq ($(wildcard $(STAMP_UHD)),)
ifneq ($(shell cat $(STAMP_UHD)):$(shell $(VENV_UHD)/bin/python -c 'print("works")' 2>/dev/null),$(CURDIR):works)
$(shell rm -f $(STAMP_UHD))
endif
endif

# $(call step,NAME,COMMAND): run a command; if it fails, say in one line which.
step = $(2) || { echo "make $@: step '$(1)' failed" >&2; exit 1; }

# An environment that never got through its first install is thrown away: nothing in it can be trusted.
define make_venv
fail() { echo "make: $$1" >&2; exit 1; }; \
python="$(PYTHON)"; \
if [ -e $(UNFINISHED) ] || ! $(BIN)/python -m pip --version >/dev/null 2>&1; then \
	version=$$("$$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null) \
		|| fail "'$$python' does not run; Python 3.11 or newer is needed (make PYTHON=/path/to/python)"; \
	"$$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| fail "'$$python' is Python $$version; 3.11 or newer is needed (make PYTHON=/path/to/python)"; \
	"$$python" -c 'import venv, ensurepip' 2>/dev/null \
		|| fail "'$$python' has no venv module (ensurepip is missing); on Debian or Ubuntu: apt install python$$version-venv"; \
	echo "make: creating $(VENV) with Python $$version"; \
	"$$python" -m venv --clear $(VENV) || fail "'$$python -m venv $(VENV)' failed"; \
	touch $(UNFINISHED); \
fi
endef

# $(call install,WHAT,STAMPS)
define install
@$(make_venv)
@echo "make: installing $(1) into $(VENV) (the first time takes about a minute)"
@$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '$(1)' \
	|| { echo "make: step 'pip install -e $(1)' failed" >&2; exit 1; }
@rm -f $(UNFINISHED)
@for stamp in $(2); do echo "$(CURDIR)" > $$stamp; done
endef

$(STAMP_RUN): pyproject.toml constraints.txt
	$(call install,.,$(STAMP_RUN))

# What developers need holds all that users need, hence both stamps.
$(STAMP_DEV): pyproject.toml constraints.txt
	$(call install,.[dev],$(STAMP_RUN) $(STAMP_DEV))

# The distribution's packages stay visible in it; what is installed into it comes before them.
$(STAMP_UHD): pyproject.toml tests/interop_uhd/constraints.txt
	@echo "make: creating $(VENV_UHD) with $(UHD_PYTHON) (the first time takes about a minute)"
	@$(call step,venv,$(UHD_PYTHON) -m venv --clear --system-site-packages $(VENV_UHD))
	@echo '*' > $(VENV_UHD)/.gitignore
	@$(call step,pip install -e .[dev],$(VENV_UHD)/bin/python -m pip install --quiet --disable-pip-version-check \
		-c tests/interop_uhd/constraints.txt -e '.[dev]')
	@echo "$(CURDIR)" > $@

define lint_steps
@$(call step,ruff check,$(BIN)/ruff check .)
@$(call step,ruff format,$(BIN)/ruff format --check .)
@$(call step,mypy,$(BIN)/mypy)
@$(call step,lint-imports,$(BIN)/lint-imports --no-logo)
endef

help: ## List the targets
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/\1|\2/p' $(firstword $(MAKEFILE_LIST)) | awk -F'|' '{printf "  make %-11s %s\n", $$1, $$2}'

demo: $(STAMP_RUN) ## Run the CoMP experiment on the emulator: power axis and loop; the report is in runs/demo
	@$(call step,isac run,$(BIN)/isac run comp --out runs/demo --overwrite $(DEMO_ARGS))

test: $(STAMP_DEV) ## Lint, check types and import contracts, run the default tests
	$(lint_steps)
	@$(call step,pytest,$(BIN)/python -m pytest -n auto --maxprocesses 4 --dist loadfile $(PYTEST_ARGS))

deps: ## Install the system packages some tests use (Debian, Ubuntu; needs root or sudo)
	@set -e; \
	installed() { [ "$$(dpkg-query -W -f='$${Status}' "$$1" 2>/dev/null)" = "install ok installed" ]; }; \
	python="$(PYTHON)"; wanted="$(SYSTEM_PACKAGES)"; missing=""; offered=""; unknown=""; \
	"$$python" -c 'import ensurepip' 2>/dev/null \
		|| wanted="$$wanted $$("$$python" -c 'import sys; print("python%d.%d-venv" % sys.version_info[:2])' || echo python3-venv)"; \
	for p in $$wanted; do installed "$$p" || missing="$$missing $$p"; done; \
	if [ -z "$$missing" ]; then echo "make deps: nothing to install ($$wanted)"; exit 0; fi; \
	if ! command -v apt-get >/dev/null; then \
		echo "make deps: no apt-get here; install what matches these Debian packages:$$missing" >&2; exit 1; fi; \
	sudo=""; \
	if [ "$$(id -u)" -ne 0 ]; then \
		if command -v sudo >/dev/null; then sudo=sudo; else \
			echo "make deps: needs root; run: apt-get update && apt-get install -y --no-install-recommends$$missing" >&2; exit 1; fi; fi; \
	$$sudo apt-get update -qq || { echo "make deps: step 'apt-get update' failed" >&2; exit 1; }; \
	for p in $$missing; do \
		if apt-cache show "$$p" >/dev/null 2>&1; then offered="$$offered $$p"; else unknown="$$unknown $$p"; fi; done; \
	if [ -n "$$offered" ]; then \
		$$sudo env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq -o Dpkg::Use-Pty=0 --no-install-recommends $$offered \
			|| { echo "make deps: step 'apt-get install$$offered' failed" >&2; exit 1; }; \
		echo "make deps: installed$$offered"; fi; \
	if [ -n "$$unknown" ]; then echo "make deps: not offered by this distribution:$$unknown" >&2; fi

bench: $(STAMP_DEV) ## Measure speed against saved baselines; never fails on speed
	@$(call step,bench,$(BIN)/python -m tests.bench $(BENCH_ARGS))

soak: $(STAMP_DEV) ## Run the long statistical tests
	@$(call step,pytest -m soak,$(BIN)/python -m pytest -m soak $(PYTEST_ARGS))

interop: $(STAMP_DEV) ## Exchange samples with GNU Radio (`make deps` installs it)
	@$(call step,pytest -m interop,$(BIN)/python -m pytest -m interop $(PYTEST_ARGS))

interop-uhd: $(STAMP_DEV) ## Drive UHD's own simulator of a USRP (Debian, Ubuntu; installs UHD, needs root or sudo)
	@$(MAKE) --no-print-directory deps SYSTEM_PACKAGES="$(UHD_PACKAGES)"
	@$(MAKE) --no-print-directory $(STAMP_UHD)
	@$(call step,pytest -m interop_uhd,ISAC_NO_SKIPS=1 ISAC_PROJECT_PYTHON="$(CURDIR)/$(BIN)/python" \
		$(VENV_UHD)/bin/python -m pytest -m interop_uhd tests/interop_uhd $(PYTEST_ARGS))

lint: $(STAMP_DEV) ## The checks of `make test` without the tests
	$(lint_steps)

format: $(STAMP_DEV) ## Format the code and repair what ruff can repair
	@$(call step,ruff format,$(BIN)/ruff format .)
	@$(call step,ruff check --fix,$(BIN)/ruff check --fix .)

clean: ## Remove caches and build outputs; .venv, .venv-uhd, runs and captures stay
	rm -rf build dist *.egg-info .pytest_cache .ruff_cache .mypy_cache .import_linter_cache .hypothesis
	find . -path './$(VENV)*' -prune -o -name __pycache__ -type d -exec rm -rf {} +
