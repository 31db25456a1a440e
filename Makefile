# `make help` lists the targets.
GO      ?= go
TIMEOUT ?= 9m
VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo dev)
LDFLAGS  = -X main.version=$(VERSION)

.DEFAULT_GOAL := help
.PHONY: help build demo test race e2e proof bench check fmt docs fuzz release clean

help: ## list the targets
	@awk -F':.*## ' '/^[a-z0-9_-]+:.*## / {printf "  %-8s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

build: ## build bin/sightline
	$(GO) build -ldflags "$(LDFLAGS)" -o bin/sightline ./cmd/sightline

demo: build ## run the demo: a simulated platform, http://127.0.0.1:9469
	./bin/sightline demo

test: ## run the tests; vet, which analyses every dependency from a cold cache, is part of `make check` and CI
	$(GO) test -vet=off -timeout $(TIMEOUT) ./...

race: ## run the tests under the race detector (a cold build of its own: several minutes)
	$(GO) test -race -timeout 20m ./...

e2e: build ## run the end-to-end tests against real servers on loopback (builds and installs them once: about 12 minutes)
	./e2e/run.sh

proof: ## run the whole grids of the proof of the rules, of which `make test` runs a sample (some ten minutes)
	SIGHTLINE_PROOF=whole $(GO) test -vet=off -count=1 -timeout 60m -run 'ClosedForm|CountOfEvents' ./slo

bench: ## run the benchmarks; each prints a ratio against a peer or a floor of the same run
	$(GO) test -run '^$$' -bench . -benchtime 1x -timeout 30m ./...

fuzz: ## run each fuzz test for a while (FUZZTIME=1m)
	./tools/fuzz.sh $(or $(FUZZTIME),30s)

check: ## formatting, vet, staticcheck, generated files up to date
	@test -z "$$($(GO) tool -modfile=tools/gofumpt/go.mod gofumpt -l -extra .)" || { $(GO) tool -modfile=tools/gofumpt/go.mod gofumpt -l -extra .; echo 'run `make fmt`'; exit 1; }
	$(GO) vet ./...
	$(GO) tool -modfile=tools/staticcheck/go.mod staticcheck ./...

fmt: ## format the Go code
	$(GO) tool -modfile=tools/gofumpt/go.mod gofumpt -w -extra .

docs: ## write the generated documents anew
	UPDATE_DOCS=1 $(GO) test -vet=off -count=1 -timeout $(TIMEOUT) -run 'TheDocument|Schema|Readme|Page|Keys|Figure' ./catalog ./config ./exporter ./exporter/gitlab ./server/api ./slo

release: ## build bin/sightline as released: static, stripped, reproducible
	CGO_ENABLED=0 $(GO) build -trimpath -ldflags "-s -w $(LDFLAGS)" -o bin/sightline ./cmd/sightline

clean: ## remove what was built here
	rm -rf bin out data
