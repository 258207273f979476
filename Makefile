# Everything a developer runs. No need to activate the environment: `make X` on a fresh checkout is enough.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.SUFFIXES:
MAKEFLAGS += --no-builtin-rules --no-print-directory

PYTHON ?= python3
KIND ?= pod
HOSTS ?= 3
ARGS ?=

# Scenarios of molecule by the kind of hosts in their lab
POD_SCENARIOS := maintenance cpu_pool migration pinning_pods migration_transport
MACHINE_SCENARIOS := isolation cpu_pool_kvm pinning hypervisor hot_plug
# Those that prepare or reboot hosts again and again take so long that `make test` leaves them out
LONG_SCENARIOS := migration_transport hypervisor cpu_pool cpu_pool_kvm isolation pinning hot_plug
SCENARIO ?= $(POD_SCENARIOS) $(MACHINE_SCENARIOS)

ROOT := $(CURDIR)
VENV := $(ROOT)/.venv
BUILD := $(ROOT)/.build
# Ansible finds the collection here; tests/tools/sync.py keeps it equal to the checkout
COLLECTION := $(BUILD)/ansible_collections/virtops/kvm_fleet
STAMP := $(VENV)/.installed

export PATH := $(VENV)/bin:$(PATH)
export ANSIBLE_COLLECTIONS_PATH := $(BUILD)
# Lets tests.lab be called from a scenario's folder
export PYTHONPATH := $(ROOT)
export PYTHONUNBUFFERED := 1
export PIP_DISABLE_PIP_VERSION_CHECK := 1

# Cheap steps first, so that a mistake shows early. Then two lanes side by side, since each waits for its hosts much of
# the time; only one of them has full hosts, which keep the CPUs busy.
FAST := lint types py39 unit
CHECKS := lint types py39 --then unit --lane docs-lint ansible-lint sanity
FULL := $(CHECKS) --then integration --lane machines integration-flows molecule-short

# Tests of whole playbooks that have a lab of their own beside the others, so many that both lanes take as long
FLOWS := $(wildcard tests/integration/test_maintenance*.py) tests/integration/test_rollout.py
# `make test` leaves out what is marked as long
PYTEST_LAB = pytest --verbose --durations=20 -m "not long" --junitxml=$(BUILD)/reports/$@/pytest.xml $(ARGS)

.PHONY: help test test-fast lint format types py39 unit docs-lint ansible-lint sanity integration integration-flows soak machines tests-long molecule \
	molecule-short molecule-long bench bench-pinning bench-migration lab lab-down demo venv sync build clean distclean

help: ## Show this help
	@grep -E '^[a-z-]+:.*## ' $(firstword $(MAKEFILE_LIST)) | sed -E 's/^([a-z-]+):.*## (.*)/  make \1\t\2/' | expand -t 22

##
demo: venv sync ## Show the whole on a laboratory of real hypervisors (KIND=machine reboots full hosts, KEEP=1 leaves it running)
	python -m tests.demo --kind $(KIND) $(if $(KEEP),--keep) $(ARGS)

test: venv ## Run every check and test (root)
	@python -m tests.tools.steps $(FULL)

test-fast: venv ## Run what needs neither root nor the laboratory (under a minute)
	@python -m tests.tools.steps $(FAST)

lint: venv ## Check the style of Python and YAML, and the changelog
	ruff check .
	ruff format --check .
	yamllint --strict .
	antsibull-changelog lint

format: venv ## Bring Python into shape
	ruff format .
	ruff check --fix .

types: venv sync ## Check types: plugins for Python 3.9, the laboratory for the controller's
	cd $(BUILD) && mypy --config-file $(ROOT)/pyproject.toml --cache-dir $(BUILD)/cache/mypy --python-version 3.9 \
		ansible_collections/virtops/kvm_fleet/plugins | sed 's|^ansible_collections/virtops/kvm_fleet/||'
	mypy --python-version 3.11 tests/lab tests/tools tests/demo

py39: venv ## Check that plugins use nothing newer than Python 3.9
	vermin --quiet --no-tips --violations --target=3.9- plugins/modules plugins/module_utils

unit: venv ## Run the unit tests (ARGS="-k words" picks some)
	pytest tests/unit --junitxml=$(BUILD)/reports/unit/pytest.xml $(ARGS)

docs-lint: venv sync ## Check the documentation of plugins and roles
	cd $(COLLECTION) && antsibull-docs lint-collection-docs --plugin-docs --validate-collection-refs all --skip-rstcheck .

ansible-lint: venv sync ## Check roles and playbooks
	cd $(COLLECTION) && ansible-lint --offline

sanity: venv ## Run ansible-test sanity (ARGS="--test validate-modules" picks some)
	python -m tests.tools.sanity $(ARGS)

integration: venv sync ## Test modules against real libvirt in the laboratory (root)
	$(PYTEST_LAB) tests/integration $(addprefix --ignore=,$(FLOWS))

integration-flows: venv sync ## Test playbooks against real libvirt in the laboratory (root)
	KVM_FLEET_TEST_LAB=$${KVM_FLEET_TEST_LAB:-it}f $(PYTEST_LAB) $(FLOWS)

soak: venv sync ## Maintain hosts with a random fault in each round (root; ROUNDS=3, SEED=8)
	KVM_FLEET_SOAK_ROUNDS=$(ROUNDS) KVM_FLEET_SOAK_SEED=$(SEED) pytest -s tests/integration/test_soak.py $(ARGS)

machines: venv sync ## Test modules on full hosts of the laboratory (root)
	$(PYTEST_LAB) tests/machines

tests-long: venv sync ## Run the tests of hosts that are marked as long (root)
	for kind in integration machines fleet; do pytest --verbose --durations=20 -m long tests/$$kind $(ARGS); done

molecule: venv sync ## Test roles in the laboratory (root; SCENARIO=maintenance picks one)
	cd $(COLLECTION)/extensions && for scenario in $(SCENARIO); do molecule test --scenario-name $$scenario; done

molecule-short: venv sync
	@$(MAKE) molecule SCENARIO="$(filter-out $(LONG_SCENARIOS),$(SCENARIO))"

molecule-long: venv sync ## Test the roles that `make test` leaves out for their time (root)
	@$(MAKE) molecule SCENARIO="$(LONG_SCENARIOS)"

bench: venv sync ## Measure the planner against first-fit and an exact solver
	python -m tests.bench.planner $(ARGS)

bench-pinning: venv sync ## Measure pinning of many VMs against loops of virsh, in the laboratory (root)
	python -m tests.bench.pinning $(ARGS)

bench-migration: venv sync ## Measure migration of many VMs against loops of virsh, in the laboratory (root)
	python -m tests.bench.migration $(ARGS)

lab: venv sync ## Start a laboratory (root; KIND=pod or machine, HOSTS=3)
	python -m tests.lab up --kind $(KIND) --hosts $(HOSTS) $(ARGS)

lab-down: venv ## Stop the laboratory
	python -m tests.lab down $(ARGS)

venv: $(STAMP) ## Make the environment with the pinned tools

$(STAMP): requirements/dev.txt
	@$(PYTHON) -c 'import sys; sys.version_info >= (3, 11) or sys.exit("Python 3.11 or newer is needed; set PYTHON=...")'
	$(PYTHON) -m venv $(VENV)
	pip install --quiet --requirement requirements/dev.txt
	@touch $@

sync: venv
	@python -m tests.tools.sync >/dev/null

build: venv sync ## Build the archive that ansible-galaxy installs
	ansible-galaxy collection build --force --output-path $(BUILD)/dist $(COLLECTION)

clean: ## Remove what was built
	rm -rf $(BUILD)

distclean: clean ## Remove the environment too
	rm -rf $(VENV)
