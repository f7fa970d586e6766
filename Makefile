# make run    text chat with the demo model at http://localhost:3000     make image  image chat
# make test   everything that is tested, browser included                make lint   style and types
# make bench  short benchmarks                                           make setup  only the set-up
# All of them set up what they need first; the second time that takes seconds.

# The first of these that is supported; the one that is taken can be named:  make PYTHON=/path/to/python run
SUPPORTED := import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))
PYTHON ?= $(shell for name in python3 python3.13 python3.12 python3.11 python; do \
	"$$name" -c '$(SUPPORTED)' >/dev/null 2>&1 && command -v "$$name" && break; done)
NO_PYTHON := ✗ There is no Python 3.11 to 3.13 on the PATH; install one, or name it: make PYTHON=/path/to/python …
VENV := .venv/bin
ARGS ?=
# So many quick tests run beside each other, more than two cores can: a third of their time they wait for something.
JOBS ?= 3
QUICK_TESTS = -m "not e2e and not slow and not chaos" --ignore=tests/e2e --ignore=tests/chaos
# Whole tasks with browsers and models, which wait for each other half of the time.
TASK_JOBS ?= 4
# The quick tests are measured for branch coverage, which costs some two fifths more of their CPU time:  make COVERAGE= test
COVERAGE ?= yes
PYTEST := $(VENV)/python -m pytest --durations=15 --durations-min=2
# Tests that fail on a busy machine are repeated once, one after the other; their names stay in the output. The repeat is not
# measured, so what the whole run has measured stays.
REPEATED := ✗ The failed tests above are repeated alone. One that passes only now has a fault: report it.
tests = $(PYTEST) $(1) $(2) || { echo "$(REPEATED)" >&2; $(PYTEST) $(1) --last-failed --last-failed-no-failures none; }
# Where these tests are: each process that runs tests imports all files that it is given, which takes longer for all of them.
TASK_TESTS = -m "e2e or slow or chaos" tests/e2e tests/chaos $(sort $(filter-out tests/e2e/% tests/chaos/%, \
	$(shell grep -rlE "mark\.(e2e|slow|chaos)" --include="test_*.py" tests)))
export PYTHONUNBUFFERED := 1
# Tests start hundreds of Pythons: each would compile this repository anew.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: setup setup-dev setup-python setup-page models models-early run image image-models test test-page test-unit test-e2e chaos lint lint-python lint-page bench goals clean

setup:
	@[ -n "$(PYTHON)" ] || { echo "$(NO_PYTHON)" >&2; exit 1; }
	@$(PYTHON) scripts/setup_env.py

setup-dev:
	@[ -n "$(PYTHON)" ] || { echo "$(NO_PYTHON)" >&2; exit 1; }
	@$(PYTHON) scripts/setup_env.py --dev

# The parts of the set-up, for targets that need no other.
setup-python:
	@[ -n "$(PYTHON)" ] || { echo "$(NO_PYTHON)" >&2; exit 1; }
	@$(PYTHON) scripts/setup_env.py --dev --only python

setup-page:
	@[ -n "$(PYTHON)" ] || { echo "$(NO_PYTHON)" >&2; exit 1; }
	@$(PYTHON) scripts/setup_env.py --only page
	@$(PYTHON) scripts/setup_env.py --only router

models: setup
	@$(VENV)/python scripts/make_demo_models.py

# As CI makes them, beside what needs only Node.
models-early: setup-python
	@$(VENV)/python scripts/make_demo_models.py

# Ctrl-C (130) is how a run is meant to be ended, so it is no failure; make, which hears it too, still prints 'Interrupt'.
run: setup
	@$(VENV)/python scripts/make_demo_models.py --only demo/smollm2
	@$(VENV)/python run.py $(ARGS) || [ $$? -eq 130 ]

image-models: setup
	@$(VENV)/python scripts/make_demo_models.py --image
	@[ -f data/image_contexts.parquet ] || $(VENV)/python scripts/save_image_contexts.py \
		--task model_chat.tasks.shapes --datatype test --num-examples 20

image: image-models
	@$(VENV)/python run_image_chat.py $(ARGS) || [ $$? -eq 130 ]

# With PAGE_IS_TESTED the page's own tests are left to who has run them already.
test: setup-dev
	@$(MAKE) --no-print-directory -j2 models $(if $(PAGE_IS_TESTED),,test-page)
	$(call tests,$(QUICK_TESTS),-n $(JOBS) --dist worksteal $(if $(COVERAGE),--cov --cov-report=))
	$(if $(COVERAGE),@$(VENV)/coverage report | sed -e '/skipped due to/d' -e '/^$$/d')
	$(call tests,$(TASK_TESTS),-n $(TASK_JOBS) --dist loadfile)

test-page: setup-page
	@cd frontend && npm run --silent test

test-unit: setup-dev
	$(PYTEST) -n $(JOBS) --dist worksteal $(QUICK_TESTS)

# Everything that can break, breaks: half an hour; MODEL_CHAT_CHAOS_KILLS=5 makes it shorter.
chaos: setup-dev
	MODEL_CHAT_CHAOS=long $(PYTEST) -m chaos

test-e2e: setup-dev models
	$(PYTEST) -n $(TASK_JOBS) --dist loadfile -m e2e

PACKAGES := agents analysis annotating comparing compat configuration conversation crowd dashboard exports images launch mephisto_task preview quality records router scripts serving tasks
MODULES := $(basename $(wildcard *.py))

lint: setup-dev
	@$(MAKE) --no-print-directory -j2 lint-python lint-page

lint-python: setup-python
	$(VENV)/ruff check .
	$(VENV)/ruff format --check .
	$(VENV)/lint-imports --no-cache
	$(VENV)/mypy $(foreach package,$(PACKAGES),-p model_chat.$(package)) \
		$(foreach module,$(filter-out setup __init__,$(MODULES)),-m model_chat.$(module))

lint-page: setup-page
	cd frontend && npm run --silent lint && npm run --silent typecheck

bench: setup-dev models
	$(VENV)/python benchmarks/reply_time.py --short
	$(VENV)/python benchmarks/compile_results.py --conversations 1000,5000 --runs 1
	$(VENV)/python benchmarks/image_stack.py --no-linear-scan
	$(VENV)/python benchmarks/batching.py --rounds 3
	$(VENV)/python benchmarks/acceptability.py
	$(VENV)/python benchmarks/many_workers.py --workers 1,16
	$(VENV)/python benchmarks/ray_overhead.py

# The figures of the table of goals in docs/performance.md that benchmarks give: about half an hour, with no other work beside it.
goals: setup-dev models
	@git describe --always --dirty
	@$(VENV)/python -c "import time; import model_chat.model_chat_blueprint; print(f'import of the blueprint: {time.process_time():.1f} s of CPU time')"
	$(VENV)/python benchmarks/many_workers.py --workers 64,128
	$(VENV)/python benchmarks/many_workers.py --workers 64 --think-time 1
	$(VENV)/python benchmarks/many_workers.py --workers 64 --think-time 1 --flow-items 30
	$(VENV)/python benchmarks/endpoints.py --rounds 2
	$(VENV)/python benchmarks/streaming.py --turns 8
	$(VENV)/python benchmarks/shared_weights.py
	$(VENV)/python benchmarks/compile_results.py --conversations 2,20 --sources files
	$(VENV)/python benchmarks/compile_results.py --conversations 14286 --sources files --runs 1 --comparisons
	$(VENV)/python benchmarks/dashboards.py --rounds 2

clean:
	rm -rf .venv build frontend/dist frontend/node_modules router/node_modules .mypy_cache .ruff_cache .pytest_cache .coverage*

# What keeps a task from running here, and what to do:  make doctor ARGS="conf=my_study"
.PHONY: doctor
doctor:
	@[ -n "$(PYTHON)" ] || { echo "$(NO_PYTHON)" >&2; exit 1; }
	@$(PYTHON) scripts/doctor.py $(ARGS)
