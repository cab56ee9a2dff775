# The developer's manual: what can be done here, one target each.

GO         ?= go
STATICCHECK = $(GO) run honnef.co/go/tools/cmd/staticcheck@v0.8.2
FUZZTIME   ?= 30s
PURE        = ./internal/... ./nat/... ./netstack/... ./egress/... ./secmod/... ./worker/...

.PHONY: run check test e2e fuzz bench soak gen build pam tools

run: ## start a server for one person on this machine
	$(GO) run ./cmd/rocserv quickstart

build: ## the programs as released: static, not PIE. rocserv works without the other, its workers as rocserv itself
	CGO_ENABLED=0 $(GO) build -trimpath -tags urfave_cli_no_docs -ldflags '-s -w' -o ./ ./cmd/rocserv
	CGO_ENABLED=0 $(GO) build -trimpath -tags lean -ldflags '-s -w' -o ./ ./cmd/rocserv-worker

pam: ## the helper for auth = pam, which needs libpam0g-dev: the only program with C in it
	CGO_ENABLED=1 $(GO) build -trimpath -tags pam -ldflags '-s -w' -o rocserv-pam ./cmd/rocserv-pam

check: ## quick: format, vet, staticcheck, the house's own rules, race on the pure packages
	@out=$$(gofmt -l $$(git ls-files '*.go')); test -z "$$out" || { echo "not gofmt-ed:"; echo "$$out"; exit 1; }
	$(GO) vet ./...
	$(GO) vet -tags e2e ./test/...
	$(GO) vet -tags lean ./internal/ipc ./worker/... ./cmd/rocserv-worker
	$(STATICCHECK) -tags e2e ./...
	$(STATICCHECK) -tags lean ./internal/ipc ./worker/... ./cmd/rocserv-worker
	GOARCH=arm64 $(GO) vet ./...
	$(GO) mod tidy -diff
	$(GO) test -count=1 ./test/house
	$(GO) test -race -short $(PURE)
	$(GO) test -tags lean ./internal/ipc
	@test/govulncheck

test: tools check ## everything: check, all tests, end to end with real clients
	$(GO) test -shuffle=on ./...
	@if [ -e /usr/include/security/pam_appl.h ] || [ "$$CI" = true ]; then \
		$(GO) vet -tags pam ./cmd/rocserv-pam ./secmod/helper/pam && $(GO) test -race -tags pam ./secmod/helper/pam; \
	else echo "skipped: the tests of auth = pam, which need libpam0g-dev"; fi
	$(MAKE) e2e

e2e: ## real clients in network namespaces, the server as an ordinary uid; needs root
	test/e2e/run

fuzz: ## every fuzz target for FUZZTIME
	test/fuzz $(FUZZTIME)

bench: ## side by side with ocserv; needs root and a quiet machine
	test/bench/run

soak: ## mixed load for a long time; needs root
	test/soak $(DURATION)

gen: ## generated files: needs protoc
	$(GO) generate ./...

tools: ## what the tests need of Debian's packages
	@test/tools
