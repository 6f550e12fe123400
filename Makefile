# Two commands matter: `make demo` and `make test`. All logic is in Python, under scripts/ and
# deploy/local/kubeseg_local/.
PYTHON ?= python3
BIN := .venv/bin
CRD := charts/kubeseg/files/trainingjobs.yaml

.DEFAULT_GOAL := help
.PHONY: help setup demo down test lint soak generate lock clean

help: ## What there is
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/  make \1\t\2/p' Makefile | expand -t 18

setup: ## Dependencies into .venv, Kubernetes into the cache (every target does it)
	@$(PYTHON) scripts/setup.py

demo: setup ## Train a model on a Kubernetes of its own; DATA=folder [IGNORE=label EPOCHS=n SIZE=px]
	@$(BIN)/python -m kubeseg_local.demo $(if $(DATA),--data "$(DATA)") $(if $(IGNORE),--ignore "$(IGNORE)") \
	  $(if $(EPOCHS),--epochs "$(EPOCHS)") $(if $(SIZE),--size "$(SIZE)") \
	  $(if $(PORT_BASE),--port-base "$(PORT_BASE)")

down: ## End the demo's cluster: no process, no mount and no file of it stays
	@$(PYTHON) scripts/down.py

test: setup ## All checks and all tests
	@$(BIN)/python scripts/checks.py
	@$(BIN)/python scripts/run_tests.py

lint: ## The checks alone
	@$(PYTHON) scripts/setup.py --python-only
	@$(BIN)/python scripts/checks.py

soak: setup ## The tests of full size: hours
	@$(BIN)/python -m pytest -m soak tests

generate: ## What is generated from the contract: the CRD
	@$(PYTHON) scripts/setup.py --python-only
	@$(BIN)/kubeseg-crd $(CRD)

lock: ## Pin the dependencies anew
	@$(PYTHON) scripts/setup.py --python-only
	@$(BIN)/uv pip compile --universal --python-version 3.11 --generate-hashes --no-header --all-extras \
	  -q pyproject.toml -o requirements.lock

clean: down ## Also removes .venv, logs and the demo's results (not the user's cache)
	@rm -rf .venv .kubeseg demo
