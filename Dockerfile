# The worker image: Logist, a Chromium that renders, and a user without rights. Its program is Logist itself:
#   docker build --tag logist .
#   docker run --rm --volume "$PWD:/job" --user "$(id -u):$(id -g)" logist job run film.json --chunk 3
# Chunks of one render must be drawn by one browser build: build it once, and name it by its digest afterwards.
FROM python:3.13-slim-trixie

# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends chromium-headless-shell fonts-dejavu-core fonts-noto-color-emoji \
    && rm -rf /var/lib/apt/lists/*

# More of them for other workers: docker build --build-arg EXTRAS=render,s3
ARG EXTRAS=render
COPY pyproject.toml README.md LICENSE /usr/src/logist/
COPY logist /usr/src/logist/logist
COPY prompts /usr/src/logist/prompts
RUN pip install --no-cache-dir "/usr/src/logist[${EXTRAS}]" && rm -r /usr/src/logist

# The id is the group that `logist export-job --target k8s` makes the volume writable for.
RUN useradd --uid 1000 --create-home logist
USER 1000
# Chromium's own sandbox needs user namespaces, which containers don't give; the container is the wall here.
ENV LOGIST_BROWSER_ARGS=--no-sandbox
WORKDIR /job
ENTRYPOINT ["logist"]
