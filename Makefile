# Every target installs what it needs: Debian packages that are missing, and Python packages into $(VENV).

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin

BUILD_PACKAGES := ca-certificates gcc libc6-dev python3-dev python3-venv
TEST_PACKAGES := chromium-headless-shell nghttp2-server nginx nodejs prometheus

.DEFAULT_GOAL := help
.NOTPARALLEL:
.DELETE_ON_ERROR:
.PHONY: help demo test build lint format lock docs wheel bench-micro compare-resilience soak fuzz clean \
	build-packages test-packages test-install test-pure test-sanitize test-packaging test-compiled

help: ## list the targets
	@sed -n 's/^\([a-z-]*\):[^#]*## /\1\t/p' Makefile | expand -t 20

demo: build ## run the proxy in front of a small backend and make an HTTP/3 request (ONCE=1: then exit)
	$(BIN)/python tools/demo.py $(if $(ONCE),--once)

test: test-packages ## everything: lint, build, and the whole suite on compiled, pure and sanitized kernels
	@$(PYTHON) tools/suite.py

build: $(VENV)/.spooky ## compile the kernels in place, for `.venv/bin/spooky`
	CFLAGS=-g1 $(BIN)/python setup.py -q build_ext --inplace --parallel $$(nproc)

lint: $(VENV)/.suite $(VENV)/.spooky ## ruff and mypy
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

format: $(VENV)/.suite ## let ruff format and repair what it can
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

lock: $(VENV)/.suite ## pin what the build and the suite install, with hashes, in requirements/
	$(BIN)/python tools/lock.py

docs: $(VENV)/.spooky ## write again the pages that come from the source
	$(BIN)/python -m spooky.config.reference >build/page.md && mv build/page.md docs/configuration.md
	$(BIN)/python -m spooky.observe.reasons_page >build/page.md && mv build/page.md docs/reasons.md
	$(BIN)/python -m spooky.control.plan_page >build/page.md && mv build/page.md docs/operations/hazards.md

wheel: $(VENV)/.suite ## build the sdist, the manylinux_2_28 wheel and its SBOM into dist/
	$(BIN)/python tools/sbom.py "$$($(BIN)/python tools/build_wheel.py dist | tail -n 1)" dist/spooky.cdx.json

bench-micro: build $(VENV)/.suite ## measure the kernels against their twins, and what stands on them
	$(BIN)/spooky bench micro
	$(BIN)/pytest benchmarks --ignore=benchmarks/test_bench_kernels.py \
		--benchmark-only --benchmark-json=build/bench-micro.json -q
	$(BIN)/python tools/bench_table.py build/bench-micro.json

compare-resilience: build $(VENV)/.suite ## Spooky and Envoy under overload, and as a backend dies
	$(BIN)/python -m benchmarks.resilience --seconds $(or $(SECONDS),60)

# The stacks of what only takes long are not printed: to walk those of running threads can crash.
soak: build $(VENV)/.suite ## the long tests
	$(BIN)/pytest -m soak --timeout=3600 -o faulthandler_timeout=0

fuzz: $(VENV)/.suite $(VENV)/.spooky ## fuzz each target for TIME seconds, or only TARGET (SANITIZE=1: checked)
	@$(BIN)/python tools/fuzz.py $(TARGET) --time $(or $(TIME),60) $(if $(SANITIZE),--sanitize)

clean: ## remove what was built, but not $(VENV)
	rm -rf build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis .benchmarks
	find spooky/_core spooky/bench \( -name '*.c' -o -name '*.so' -o -name '*.html' \) -delete
	find spooky tests tools benchmarks fuzz -name __pycache__ -prune -exec rm -rf {} +

# The parts of `make test`, in tools/suite.py with their budgets.

# Rooms whose tests start no process, share no port and watch no clock: these run side by side.
SIDE_BY_SIDE := $(addprefix tests/,config core generation house observe protocol scenario)
# Rooms whose proxies are in the tests' own process or in others, at ports that nobody else gets, and
# which wait as much as they compute: two files at a time. `bench`, `benchmarks` and `fuzz` are not
# among them: they measure, or take all cores themselves.
TWO_AT_A_TIME := $(addprefix tests/,attacks cli control edge embedding hostile interop overload pairs \
	request runtime smuggling tools upstream)
ONE_BY_ONE = $(filter-out $(SIDE_BY_SIDE) $(TWO_AT_A_TIME),$(patsubst %/,%,$(wildcard tests/[a-z]*/))) \
	benchmarks $(ALONE)
# What floods sockets, whose buffers a machine with more to do is too slow to empty.
ALONE := tests/control/test_steering.py
TWO := -n 2 --dist loadfile $(addprefix --ignore=,$(ALONE))

test-install: test-packages $(VENV)/.suite $(VENV)/.spooky

# On the twins run the rooms that call kernels. Of the others, what starts workers without any; the
# scenarios of aioquic's engine have no kernel to be without.
PURE_SIDE_BY_SIDE := $(filter-out $(addprefix tests/,config house scenario),$(SIDE_BY_SIDE))
PURE_TWO_AT_A_TIME := $(filter-out $(addprefix tests/,cli control interop tools),$(TWO_AT_A_TIME)) \
	$(addprefix tests/,fuzz/test_seeds.py bench/test_histogram.py bench/test_micro.py \
	cli/test_broken_build.py cli/test_info.py cli/test_proxy.py cli/test_request.py \
	control/test_changes.py control/test_confinement.py control/test_processes.py)
test-pure: test-install
	SPOOKY_PURE=1 $(BIN)/pytest $(PURE_SIDE_BY_SIDE) -n auto
	SPOOKY_PURE=1 $(BIN)/pytest $(PURE_TWO_AT_A_TIME) $(TWO) -m "not interop and not soak and not packaging"

test-sanitize: test-install
	$(BIN)/python tools/sanitize.py

test-packaging: test-install
	$(BIN)/pytest tests/packaging -m packaging

test-compiled: test-install build
	$(BIN)/pytest $(SIDE_BY_SIDE) -n auto
	$(BIN)/pytest $(TWO_AT_A_TIME) $(TWO)
	$(BIN)/pytest $(ONE_BY_ONE) -m "not soak and not packaging" --benchmark-disable

# What the targets stand on.

build-packages:
	@tools/debian-packages $(BUILD_PACKAGES)

test-packages:
	@tools/debian-packages $(BUILD_PACKAGES) $(TEST_PACKAGES)

$(VENV)/.pip: | build-packages
	$(PYTHON) -m venv $(VENV)
	touch $@

# Only what `make lock` wrote down: these versions, and files of these hashes.
$(VENV)/.build $(VENV)/.suite: $(VENV)/.%: requirements/%.txt $(VENV)/.pip
	$(BIN)/pip install --quiet --require-hashes --requirement $<
	touch $@

# Without extensions: `build` compiles them in place, and again only those whose source changed.
# The warning to ignore is that a folder of the package's name comes first here; so it should.
$(VENV)/.spooky: pyproject.toml setup.py $(VENV)/.build
	mkdir -p build
	SPOOKY_PURE=1 PYTHONWARNINGS=ignore $(BIN)/pip install --quiet --no-build-isolation --no-deps --editable .
	touch $@
