# syntax=docker/dockerfile:1
# The service in an image without a shell, for amd64 and arm64, each compiled on either. `--target test` runs the tests that need
# no servers.
# hadolint global ignore=DL3006
ARG RUST=docker.io/library/rust:1.95.0-bookworm

FROM --platform=${BUILDPLATFORM} ${RUST} AS build
ARG TARGETARCH
# `local-embeddings` for an embedder in the process.
ARG FEATURES=
WORKDIR /src
COPY . .
# Queries are checked against .sqlx; crates and what was built of them are kept between builds, by platform.
ENV SQLX_OFFLINE=true CARGO_TERM_COLOR=never
RUN --mount=type=cache,id=regreen-crates,target=/usr/local/cargo/registry \
    --mount=type=cache,id=regreen-target-${TARGETARCH},target=/src/target \
    .ci/image-build "${TARGETARCH}" "${FEATURES}" /image

FROM build AS test
RUN --mount=type=cache,id=regreen-crates,target=/usr/local/cargo/registry \
    --mount=type=cache,id=regreen-tests-${TARGETARCH},target=/src/target \
    cargo test --locked --lib --test architecture

FROM scratch
ARG VERSION=0.1.0
ARG REVISION=
LABEL org.opencontainers.image.title="Regreen" \
      org.opencontainers.image.description="Brings broken CI/CD pipelines back to green: one issue per cause" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
COPY --from=build /image /
# OpenShift puts an id of its own in the place of 1000; group 0 is what they have in common.
USER 1000:0
# The second address is all that a worker has for its health check.
ENV PATH=/usr/local/bin HOME=/tmp REGREEN_BIND=0.0.0.0 REGREEN_METRICS_BIND=0.0.0.0:9090
EXPOSE 8000 9090
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=6s --start-period=90s --retries=6 CMD ["/usr/local/bin/regreen", "health"]
ENTRYPOINT ["/usr/local/bin/regreen"]
CMD ["serve"]
