# Spillway. `make` alone lists what can be made.
SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

SERVICES := $(notdir $(patsubst %/,%,$(dir $(wildcard services/*/go.mod))))
MODULES := proto platform $(addprefix services/,$(SERVICES)) lab
# Apart from the workspace: nothing of these reaches a product.
APART := tools tools/manifests tilt/test tools/observers
# The conductor is a cluster's: here `spillway` itself serves the mesh, and nobody
# waits for the Kubernetes libraries of the other to be built.
LOCAL := $(filter-out conductor,$(SERVICES))
BINARIES := $(addprefix bin/,$(LOCAL)) bin/spillway
TOOLS := $(addprefix bin/tools/,buf protoc-gen-go protoc-gen-go-grpc protoc-gen-grpc-gateway staticcheck)
# Without grpc's own tracing pages the linker can leave out what nobody calls: a
# service is a third smaller.
export GOFLAGS := -tags=grpcnotrace
# How long one package's tests may take.
TEST_TIMEOUT ?= 10m
# How long `make fuzz` looks at each target.
FUZZTIME ?= 20s
# What `make up` hands to `spillway up`.
UP_FLAGS ?=
# Where `make scenarios` writes, the time-lapse of files without one of their own,
# and what else it hands to `spillway run`, such as --repeat 3.
REPORTS ?= reports
TIMELAPSE ?= 10
RUN_FLAGS ?=
# What `make bench` takes besides, such as -only refusals.
BENCH_FLAGS ?=

.PHONY: help
help: ## list the targets
	@awk 'BEGIN {FS = ":.*## "} /^[a-zA-Z0-9_-]+:.*## / {printf "  \033[1m%-16s\033[0m %s\n", $$1, $$2}' $(MAKEFILE_LIST)

##——— run
.PHONY: up
up: build ## build what is missing and run the mesh in the foreground until Ctrl-C
	@exec bin/spillway up $(UP_FLAGS)

.PHONY: scenarios
scenarios: build ## run every scenario in time-lapse; the reports go to reports/
	@scripts/scenarios $(REPORTS) $(TIMELAPSE) $(RUN_FLAGS)

.PHONY: build
build: ## every binary, under bin/
	@mkdir -p bin
	@printf 'building %s\n' "$(notdir $(BINARIES))"
	@go build -v -buildvcs=false -o bin/ $(addprefix ./services/,$(LOCAL)) 2>&1 | scripts/build-progress
	@go build -v -o bin/ ./lab/cmd/spillway 2>&1 | scripts/build-progress

##——— on Kubernetes
.PHONY: kind
kind: ## make a kind cluster with a local registry; then: tilt up
	@scripts/kind-cluster

.PHONY: images
images: ## the image of every service, by ko, docker or buildah; pushed if REPOSITORY is set
	@scripts/images

.PHONY: archive
archive: ## the release archive for this machine, in bin/
	@scripts/release-archive "$$(go env GOOS)" "$$(go env GOARCH)" bin

##——— check
.PHONY: test
test: test-deps build lint test-alone test-e2e ## install what tests need, then run all of them

.PHONY: test-deps
test-deps:
	@scripts/test-deps

.PHONY: test-alone
test-alone: ## vet and test every module by itself (no workspace), the mesh's under -race
	@scripts/each-module 'go vet ./... && go test -shuffle=on -timeout $(TEST_TIMEOUT) ./...' $(APART)
	@scripts/each-module 'go vet ./... && go test -race -shuffle=on -timeout $(TEST_TIMEOUT) ./...' $(MODULES)

.PHONY: test-e2e
test-e2e: build ## drive the real mesh, the same engine that a user runs
	@cd lab && go test -tags e2e,grpcnotrace -count=1 -timeout $(TEST_TIMEOUT) ./e2e/...

.PHONY: test-cluster
test-cluster: ## on a real Kubernetes: tickets, metrics, scaling, rolling restarts, faults, a scenario (see scripts/test-cluster)
	@scripts/test-cluster

.PHONY: test-tilt
test-tilt: ## where Tilt is: bring everything up on the current context with `tilt ci`, images without a registry
	@scripts/test-tilt

.PHONY: fuzz
fuzz: ## look for input that breaks a fuzz target, FUZZTIME (20s) for each
	@scripts/fuzz $(FUZZTIME)

.PHONY: lint
lint: $(TOOLS) proto/imported ## format, staticcheck, buf lint, breaking changes, generated code up to date, shell
	@scripts/lint $(APART) $(MODULES)

.PHONY: bench
bench: build ## measure ratios in one interleaved run; writes bin/bench.json
	@go run ./platform/bench/cmd/bench $(BENCH_FLAGS)

##——— change
.PHONY: generate
generate: $(TOOLS) proto/imported ## make proto/gen from the .proto files, and the rules of coordinated scaling from the call graph
	@cd proto && ../bin/tools/buf format -w --path spillway && ../bin/tools/buf generate
	@go run ./lab/coordination/cmd/rules

.PHONY: baseline
baseline: $(TOOLS) proto/imported ## at a release: the contract that later changes must not break
	@cd proto && ../bin/tools/buf build --path spillway --exclude-source-info -o baseline.binpb

.PHONY: tidy
tidy: ## go mod tidy in every module
	@scripts/each-module 'go mod tidy' $(APART) $(MODULES)

.PHONY: clean
clean: ## remove what was built; the state of local runs (.spillway/) stays
	@rm -rf bin proto/imported

$(TOOLS) &: tools/go.mod tools/go.sum
	@mkdir -p bin/tools
	@echo 'building the tools (once; a few minutes on two cores)'
	@cd tools && GOWORK=off GOBIN=$(CURDIR)/bin/tools go install tool
	@touch $(TOOLS)

proto/imported: tools/go.sum tools/cmd/protoimports/main.go
	@cd tools && GOWORK=off go run ./cmd/protoimports ../proto/imported
	@touch proto/imported
