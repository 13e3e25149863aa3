SHELL := bash -euo pipefail
.DEFAULT_GOAL := help

bin := .venv/bin
image := $(or $(KENNEL_IMAGE),kennel)
# many short processes start here, and each should find what another has compiled
export PYTHONDONTWRITEBYTECODE :=
export KENNEL_IMAGE BASE_IMAGE TORCH_INDEX_URL CA_CERTIFICATES WHEELS WEIGHTS_DIR SOURCE

help: ## print this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-16s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: ## make .venv with all packages that the locks name
	@scripts/setup

demo: setup ## tune, serve and predict, offline (DATA=folder WEIGHTS=file BACKBONE=name for your own images)
	@$(bin)/kennel demo $(if $(DATA),--data "$(DATA)") $(if $(WEIGHTS),--weights "$(WEIGHTS)") $(if $(BACKBONE),--backbone $(BACKBONE))

story: setup ## search, train, register, serve, change the script, as a person types it (DATA=folder WEIGHTS=file BACKBONE=name ON=docker)
	@DATA="$(DATA)" WEIGHTS="$(WEIGHTS)" BACKBONE="$(BACKBONE)" ON="$(ON)" scripts/story

test: setup ## run all tests, one file a core at a time
	@KENNEL_CORES=1 $(bin)/pytest --numprocesses logical --maxprocesses 8 --dist loadfile --no-loadscope-reorder

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
	@$(bin)/python -m tests.benchmarks.bench_train

bench-tune: setup ## time a search against the usual loop and the floor (MobileNetV2 and ResNet-50; 20 minutes)
	@$(bin)/python -m tests.benchmarks.bench_tune

bench-fine-tune: setup ## time fine-tuning against the bare training step and the usual loop
	@$(bin)/python -m tests.benchmarks.bench_fine_tune

bench-serve: setup ## compare the server with others, installed from PyPI into build/peers (needs a network; an hour)
	@$(bin)/python -m tests.benchmarks.bench_serve

bench-upload: setup ## time the upload of 10,000 files against `aws s3 cp`, to an S3 of this machine (needs a network)
	@$(bin)/python -m tests.benchmarks.bench_upload

bench-start: setup ## time a small job, and the start and the end of a server
	@$(bin)/python -m tests.benchmarks.bench_start

bench-watch: setup ## time a training step with the debugger and the profiler against one without
	@$(bin)/python -m tests.benchmarks.bench_watch

build: ## build the image (see scripts/build for what can be given, such as WEIGHTS_DIR=folder)
	@scripts/build

smoke: setup ## train, serve and predict once in containers of the image; built first if it is not there
	@docker image inspect "$(image)" >/dev/null 2>&1 || scripts/build
	@$(bin)/kennel smoke

sdk-smoke: setup ## train, deploy and predict with AWS's own SDK in local mode (KENNEL_TEST_DATA=folder with dogs10)
	@docker image inspect "$(image)" >/dev/null 2>&1 || scripts/build
	@[ -d .venv-sdk ] || $(bin)/uv venv --quiet --python $(bin)/python .venv-sdk
	@$(bin)/uv pip install --quiet --python .venv-sdk --requirement tests/sdk/requirements.txt
	@.venv-sdk/bin/python tests/sdk/local_mode.py

infrastructure: setup ## make what Kennel needs of AWS, or bring it up to date, and write kennel.toml (AWS_REGION)
	@$(bin)/kennel init

push: setup ## push the image to Amazon ECR and print its URI (AWS_REGION, KENNEL_REPOSITORY)
	@$(bin)/kennel push

sbom: setup ## write build/sbom.json: CycloneDX of the image's Python packages
	@mkdir -p build
	@docker run --rm --network none --entrypoint pip "$(image)" list --format freeze >build/packages.txt
	@$(bin)/cyclonedx-py requirements --output-reproducible --output-format JSON --output-file build/sbom.json build/packages.txt
	@echo "sbom: build/sbom.json names $$(wc -l <build/packages.txt) packages of $(image)"

audit: setup ## look up the image's packages in the public database of known vulnerabilities (needs a network)
	@$(bin)/pip-audit --strict --disable-pip --no-deps --requirement docker/requirements.txt

lock: setup ## pin the newest versions that docker/requirements.in and tests/requirements.in allow
	@$(bin)/uv pip compile --quiet --upgrade --no-header --python-version 3.11 --excludes docker/excluded.txt docker/requirements.in -o docker/requirements.txt
	@$(bin)/uv pip compile --quiet --upgrade --no-header --python-version 3.11 --excludes docker/excluded.txt tests/requirements.in -o tests/requirements.txt
	@$(bin)/uv pip compile --quiet --upgrade --no-header --python-version 3.11 --excludes docker/excluded.txt tests/sdk/requirements.in -o tests/sdk/requirements.txt

clean: ## remove the environment and all caches in this folder
	@rm -rf .venv .venv-sdk .mypy_cache .pytest_cache .ruff_cache build *.egg-info

.PHONY: help setup demo story test lint format data bench-train bench-tune bench-fine-tune bench-serve bench-start bench-upload bench-watch build smoke sdk-smoke infrastructure push sbom audit lock clean
