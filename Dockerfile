# The toolkit with its extras:  docker build -t stm-vos .
#   docker run --rm --gpus all -v "$PWD:/work" stm-vos train --shards shards/coco --out runs/first
# Written files are root's unless you add --user "$(id -u):$(id -g)"; several GPUs want --ipc=host.
# An image for the CPU is much smaller:
#   docker build --build-arg TORCH_INDEX=https://download.pytorch.org/whl/cpu -t stm-vos .
FROM python:3.12-slim AS build
ARG TORCH_INDEX=""
COPY . /src
# The bounds of all versions are in pyproject.toml.
# hadolint ignore=DL3013
RUN python -m venv /opt/stm \
    && /opt/stm/bin/pip install --no-cache-dir ${TORCH_INDEX:+--extra-index-url "$TORCH_INDEX"} \
        "/src[log,prep,remote,video]"

FROM python:3.12-slim
LABEL org.opencontainers.image.title="STM toolkit" org.opencontainers.image.licenses="Apache-2.0"
# torch.compile (--set compile=true) builds small C extensions.
# hadolint ignore=DL3008
RUN apt-get update && apt-get install -y --no-install-recommends gcc libc6-dev \
    && rm -rf /var/lib/apt/lists/*
COPY --from=build /opt/stm /opt/stm
# Caches follow HOME, which any user may write here.
ENV PATH=/opt/stm/bin:$PATH HOME=/tmp
RUN stm --version
WORKDIR /work
ENTRYPOINT ["stm"]
CMD ["--help"]
