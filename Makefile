SHELL := bash -euo pipefail
.DEFAULT_GOAL := help

bin := .venv/bin

help: ## print this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: ## make .venv with all packages that the locks name
	@scripts/setup

demo: setup ## train, serve and predict, offline (DATA=folder WEIGHTS=file BACKBONE=name for your own images)
	@$(bin)/kennel demo $(if $(DATA),--data "$(DATA)") $(if $(WEIGHTS),--weights "$(WEIGHTS)") $(if $(BACKBONE),--backbone $(BACKBONE))

test: setup ## run all tests
	@$(bin)/pytest

lint: setup ## check format, style and types
	@$(bin)/ruff format --check .
	@$(bin)/ruff check .
	@$(bin)/mypy

format: setup ## format the code and mend what the linter can
	@$(bin)/ruff format .
	@$(bin)/ruff check --fix .

data: setup ## download and unpack the public data set of 133 dog breeds into data/
	@$(bin)/kennel data

bench-train: setup ## time a training job against the floor of one decode and one forward
	@$(bin)/python tests/benchmarks/bench_train.py

lock: setup ## pin the newest versions that docker/requirements.in and tests/requirements.in allow
	@$(bin)/uv pip compile --quiet --upgrade --no-header --python-version 3.11 docker/requirements.in -o docker/requirements.txt
	@$(bin)/uv pip compile --quiet --upgrade --no-header --python-version 3.11 tests/requirements.in -o tests/requirements.txt

clean: ## remove the environment and all caches in this folder
	@rm -rf .venv .mypy_cache .pytest_cache .ruff_cache build *.egg-info

.PHONY: help setup demo test lint format data bench-train lock clean
