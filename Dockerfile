# The images of one release: `service` (the API and the `cdm` command, no PyTorch), `worker` (Ray's nodes and the jobs on
# them) and `mlflow` (the tracking server).
#
#   docker build --target service .
#   docker build --target worker .                              PyTorch for CPUs
#   docker build --target worker --build-arg TORCH_INDEX= .     PyTorch for NVIDIA GPUs, the index's default
#
# A package index behind a certificate authority of your own: --secret id=ca,src=/path/to/ca.crt. Nothing of it stays.

# To pin it to the byte: --build-arg PYTHON=python@sha256:...
ARG PYTHON=python:3.11-slim-bookworm

# Wheels that lie on this machine come before the index: --build-context wheels=FOLDER
FROM scratch AS wheels

FROM ${PYTHON} AS base
RUN useradd --uid 10001 --user-group --create-home --shell /usr/sbin/nologin cdm
ENV PATH=/opt/venv/bin:/app/bin:$PATH \
    PYTHONPATH=/app \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1
WORKDIR /home/cdm

# Packages change rarely and lie in a layer of their own; the code is added last, so that a change of it rebuilds in seconds.
FROM base AS packages
ENV PYTHONDONTWRITEBYTECODE= \
    PIP_CACHE_DIR=/var/cache/pip \
    PIP_DISABLE_PIP_VERSION_CHECK=1 \
    PIP_ROOT_USER_ACTION=ignore
COPY --chmod=755 deploy/images/install.sh /usr/local/bin/install-packages
RUN python -m venv --without-pip /opt/venv

FROM packages AS project
RUN --mount=type=cache,target=/var/cache/pip --mount=type=secret,id=ca,target=/run/ca.pem \
    --mount=type=bind,source=deploy/lock/images/build.txt,target=/tmp/lock.txt \
    install-packages --require-hashes --no-deps -r /tmp/lock.txt
COPY pyproject.toml README.md /src/
COPY service /src/service
COPY workers /src/workers
RUN chmod -R a+rX /src \
    && install-packages --no-index --no-deps --no-build-isolation --target /app /src

FROM packages AS service-packages
RUN --mount=type=cache,target=/var/cache/pip --mount=type=secret,id=ca,target=/run/ca.pem \
    --mount=type=bind,source=deploy/lock/images/service.txt,target=/tmp/lock.txt \
    install-packages --require-hashes --no-deps -r /tmp/lock.txt

FROM packages AS mlflow-packages
RUN --mount=type=cache,target=/var/cache/pip --mount=type=secret,id=ca,target=/run/ca.pem \
    --mount=type=bind,source=deploy/lock/images/mlflow.txt,target=/tmp/lock.txt \
    install-packages --require-hashes --no-deps -r /tmp/lock.txt

FROM packages AS worker-packages
ARG TORCH=torch==2.13.0
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu
RUN --mount=type=cache,target=/var/cache/pip --mount=type=secret,id=ca,target=/run/ca.pem \
    --mount=type=bind,from=wheels,target=/wheels \
    install-packages --find-links /wheels ${TORCH_INDEX:+--index-url ${TORCH_INDEX}} "${TORCH}"
RUN --mount=type=cache,target=/var/cache/pip --mount=type=secret,id=ca,target=/run/ca.pem \
    --mount=type=bind,source=deploy/lock/images/worker.txt,target=/tmp/lock.txt \
    install-packages --require-hashes --no-deps -r /tmp/lock.txt

FROM base AS mlflow
COPY --link --from=mlflow-packages /opt/venv /opt/venv
COPY --link --chmod=755 deploy/images/probe.py /usr/local/bin/probe
USER 10001
EXPOSE 5000
CMD ["mlflow", "server", "--host", "0.0.0.0", "--port", "5000", "--workers", "1"]

FROM base AS worker
# torch.compile builds its kernels when they are first used. NCCL opens the verbs library and its drivers (InfiniBand,
# RoCE) if they are there, and goes by TCP otherwise.
# Debian keeps one release of a package; the base image says of which day.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends g++ libibverbs1 ibverbs-providers librdmacm1 \
    && rm -rf /var/lib/apt/lists/*
# Each image set is copied here once for all jobs of a node.
RUN mkdir /var/cache/cdm && chown 10001:10001 /var/cache/cdm
# Google's nodes mount NVIDIA's driver there, where the loader does not look; elsewhere the container toolkit puts it where
# it does. Triton's cache would lie at home, which cannot be written to where only /tmp can.
ENV CDM_CACHE=/var/cache/cdm \
    LD_LIBRARY_PATH=/usr/local/nvidia/lib64 \
    TRITON_CACHE_DIR=/tmp/triton
COPY --link --from=worker-packages /opt/venv /opt/venv
COPY --link --from=project /app /app
COPY --link --chmod=755 deploy/images/probe.py /usr/local/bin/probe
USER 10001
EXPOSE 6379 8265 10001
CMD ["ray", "start", "--head", "--block", "--disable-usage-stats"]

FROM base AS service
COPY --link --from=service-packages /opt/venv /opt/venv
COPY --link --from=project /app /app
COPY --link --chmod=755 deploy/images/probe.py /usr/local/bin/probe
USER 10001
EXPOSE 8400
CMD ["uvicorn", "service.app:create_app_from_environment", "--factory", "--host", "0.0.0.0", "--port", "8400", "--log-level", "warning", "--timeout-graceful-shutdown", "10"]
