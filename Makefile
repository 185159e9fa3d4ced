# What a developer and CI call. `make` alone builds; `make help` lists all.

GO       ?= go
ARCHES   ?= amd64 arm64
FUZZTIME ?= 30s
FAULT_ROUNDS ?= 20
ROUNDS   ?= 5
VERSION  := $(shell git describe --tags --always --dirty 2>/dev/null || echo unreleased)

# The tools are pinned in a module of their own, so that what they need never
# decides which versions a plugin's author gets.
TOOL := $(GO) tool -modfile=tools/go.mod

# Reproducible and static: an agent is known by its digest and runs wherever
# the kernel does.
BUILD := CGO_ENABLED=0 $(GO) build -trimpath -buildvcs=false

AGENTS := $(ARCHES:%=bin/transferpy-agent-linux-%)

# What buf breaking compares the plugins' wire with: the last release, else
# what was published.
BREAKING_REF := $(shell git describe --tags --abbrev=0 2>/dev/null || git rev-parse --verify --quiet origin/main || echo HEAD)

.PHONY: build
build: agents ## bin/transferpy with the agents inside
	$(BUILD) -ldflags "-s -w -X main.release=$(VERSION)" -o bin/transferpy ./cmd/transferpy

.PHONY: agents
agents: $(AGENTS) ## the agents alone; others by make agents ARCHES="amd64 riscv64"
	$(GO) run ./core/agentbin/pack $(AGENTS)

# Phony in effect: go itself knows best what has to be built again.
.PHONY: $(AGENTS)
$(AGENTS): bin/transferpy-agent-linux-%:
	GOOS=linux GOARCH=$* $(BUILD) -ldflags "-s -w" -o $@ ./cmd/transferpy-agent

.PHONY: demo
demo: build ## copy a real tree on this machine and print the report
	scripts/demo

.PHONY: test
test: build ## all tests; installs what they need
	scripts/test

.PHONY: test-e2e
test-e2e: build ## the tests in the lab alone; needs root
	$(GO) test -count=1 ./test/...

.PHONY: faults
faults: build ## FAULT_ROUNDS (20) rounds of each fault in the lab, at random moments, and all faults of a chain and within agents; root, hours
	FAULT_ROUNDS=$(FAULT_ROUNDS) $(GO) test -count=1 -timeout 6h -run 'TestFaults(Resumed|Attached)?$$|InTheChain$$|OfAChain$$|TestSlowTarget$$' -v ./test/e2e
	FAULT_ROUNDS=$(FAULT_ROUNDS) $(GO) test -count=1 -run 'TestScripts/backendgone$$' -v ./test/e2e
	FAULT_ROUNDS=1 $(GO) test -count=1 -timeout 1h ./core/agent

.PHONY: race
race: build ## all tests with the race detector; needs a C compiler
	scripts/test -race

.PHONY: lint
lint: ## gofmt, go vet, staticcheck, buf lint, buf breaking
	@files=$$(gofmt -l $$(git ls-files '*.go')); test -z "$$files" || { echo "not formatted; run gofmt -w:"; echo "$$files"; exit 1; }
	$(GO) vet ./...
	$(TOOL) staticcheck ./...
	$(TOOL) buf lint
	$(TOOL) buf breaking --against '.git#ref=$(BREAKING_REF)'

.PHONY: generate
generate: ## sdk/proto/v1/*.pb.go from the .proto files
	$(TOOL) buf generate

.PHONY: fuzz
fuzz: ## every fuzz target for FUZZTIME (30s)
	scripts/fuzz $(FUZZTIME)

.PHONY: bench
bench: build ## all cases against named peers into docs/benchmarks.md; root, an hour; ROUNDS=5, CASES=NAME,...; PROFILE=DIR: profiles instead
	$(GO) run ./test/bench -rounds $(ROUNDS) $(if $(CASES),-cases $(CASES)) $(if $(PROFILE),-profile $(PROFILE),-full)

.PHONY: bench-quick
bench-quick: build ## what a transfer costs beside its bytes, as a table; as root in the lab too
	$(GO) run ./test/bench

.PHONY: lab
lab: build ## leave a lab of hosts up to play with; needs root
	$(GO) run ./test/lab/cmd/lab up -bin bin

.PHONY: clean
clean: ## what the other targets have built
	rm -rf bin core/agentbin/files/linux-*.gz core/agentbin/files/index.json

.PHONY: help
help: ## this list
	@sed -n 's/^\([a-z0-9-]*\):.*## \(.*\)/\1	\2/p' $(MAKEFILE_LIST)
