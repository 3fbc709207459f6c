# syntax=docker/dockerfile:1.7
# One image for each service: --build-arg SERVICE=gateway, or lab for the load
# generator. The binary is all that is in it.
#   docker buildx build --platform linux/amd64,linux/arm64 --build-arg SERVICE=gateway -t spillway/gateway:0.1.0 .
ARG GO_IMAGE=golang:1.26.8-bookworm

# Compiles on the builder's own platform for the image's.
FROM --platform=$BUILDPLATFORM ${GO_IMAGE} AS build
WORKDIR /src
COPY . .
ARG SERVICE
ARG TARGETARCH
RUN --mount=type=cache,target=/go/pkg/mod --mount=type=cache,target=/root/.cache/go-build \
    scripts/image-binary "${SERVICE:?say which: --build-arg SERVICE=gateway}" "$TARGETARCH" /out/spillway

# Statically linked, and what it calls it calls by gRPC without TLS or with
# certificates that are mounted: it needs no file beside itself.
FROM scratch
COPY --from=build --chmod=0555 /out/spillway /spillway
USER 65532:65532
ENTRYPOINT ["/spillway"]
