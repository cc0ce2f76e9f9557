# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The Holdfast authors
#
# The front of the build; meson and ninja do the work. `make demo` and `make test` install what they miss
# (tools/setup); everything else only uses what is there.

SHELL := /bin/bash
BUILD ?= build
CHECK_BUILD ?= build-check
FUZZ_SECONDS ?= 10
PREFIX ?= /usr/local
E2E ?= tests/e2e

# Meson's Python is Debian's, whatever else is first in PATH.
MESON ?= meson
PYTHON ?= /usr/bin/python3

MISTAKES_BUILD ?= build-mistakes

.PHONY: all build demo test check soak mutation bench install clean help

all: build

$(BUILD)/build.ninja:
	@command -v $(MESON) >/dev/null || { echo "meson is missing: run tools/setup build" >&2; exit 1; }
	$(MESON) setup $(BUILD) --prefix $(PREFIX)

build: $(BUILD)/build.ninja
	ninja -C $(BUILD)

demo:
	tools/setup demo
	+$(MAKE) --no-print-directory build
	tools/demo
	tools/demo --remote
	tools/demo --postgres

# Release code with its assertions, then real processes; ends with one line: N passed, N failed.
test:
	tools/setup test
	+$(MAKE) --no-print-directory build
	$(PYTHON) tools/run-tests $(BUILD) --e2e $(E2E)

check:
	tools/setup test
	tools/check $(CHECK_BUILD) $(FUZZ_SECONDS)

# Simulated worlds with fresh seeds on all cores, until stopped or for HOURS=n; keeps what failed in soak/.
soak: build
	tools/soak $(BUILD) --hours $(or $(HOURS),0)

# Each planted mistake of src/base/mistake.h has to be found by the simulator.
mutation:
	tools/setup build
	@test -f $(MISTAKES_BUILD)/build.ninja || $(MESON) setup $(MISTAKES_BUILD) -Dmistakes=true >/dev/null
	ninja -C $(MISTAKES_BUILD) --quiet holdfast-sim
	$(PYTHON) tools/mutation $(MISTAKES_BUILD)

bench:
	tools/setup bench
	+$(MAKE) --no-print-directory build
	bench/run

install: build
	$(MESON) install -C $(BUILD) --no-rebuild

clean:
	rm -rf $(BUILD) $(CHECK_BUILD)

help:
	@echo 'make            build into $(BUILD)/'
	@echo 'make demo       a controller is killed, then a site, with a database too (installs packages)'
	@echo 'make test       unit, story, fault and end-to-end tests (installs packages)'
	@echo 'make check      format, folder rules, warnings, and the tests and fuzz targets under sanitizers'
	@echo 'make soak       the simulator on all cores for HOURS=n (default: until stopped); failing seeds stay in soak/'
	@echo 'make mutation   plants mistakes in the core, one at a time: the simulator has to find each'
	@echo 'make bench      the figures of docs/performance.md'
	@echo 'make install    into $(PREFIX), or DESTDIR'
