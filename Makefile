# What those who work on topicast run; CONTRIBUTING.md says when. `make` lists it.
# No target is needed to build: `go build ./cmd/topicast` is all there is to it.

FUZZTIME ?= 30s

help: ## list the targets
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/\1\t\2/p' Makefile | expand -t 12

build: ## the program, as a release has it: ./topicast
	CGO_ENABLED=0 go build -trimpath -ldflags '-s -w' -o topicast ./cmd/topicast

test: ## all tests; those without what they need skip, and say so
	go test -shuffle=on ./...

# Programs under the race detector end a second later than they could, which is minutes with all
# those that the tests start: hence atexit_sleep_ms.
race: ## all tests under the race detector, none skipped, as CI has it (root, Linux)
	TOPICAST_NO_SKIP=1 GORACE=atexit_sleep_ms=10 go test -race -shuffle=on -count=1 -timeout 10m ./...

lint: ## format, vet and staticcheck for the three systems
	.ci/lint

vuln: ## known vulnerabilities in what the program calls (asks vuln.go.dev)
	go run golang.org/x/vuln/cmd/govulncheck@v1.9.0 ./...

fuzz: ## each fuzz target for FUZZTIME (30s)
	@grep -r --include='*_test.go' '^func Fuzz' . | sed 's|^\./\(.*\)/[^/]*:func \(Fuzz[A-Za-z]*\).*|\1 \2|' | \
	while read -r package target; do \
	  echo "$$package $$target"; \
	  go test -run '^$$' -fuzz "^$$target\$$" -fuzztime $(FUZZTIME) "./$$package" || exit 1; \
	done

bench: ## speed beside its peers, in namespaces, half an hour (root)
	go run ./internal/lab/bench

faults: ## every fault of docs/reliability.md, in namespaces (root)
	go run ./internal/lab/faults --parallel 2

attack: ## every attack of docs/security.md, in namespaces (root)
	go run ./internal/lab/attack

soak: ## 20 minutes of faults at random, at 5,000 messages a second (root)
	go run ./internal/lab/faults --soak 20m --rate 5000

systemd: ## the unit under a real systemd, in a container (root, Debian)
	.ci/systemd

brokers: ## docs/brokers.md, measured anew (root, Debian)
	.ci/brokers

programs: ## docs/programs.md, tried anew: real devices' programs (root, Debian)
	.ci/programs

browser: ## the status page in a real browser, with pictures in ./screenshots (Debian)
	.ci/browser screenshots

learn: ## docs/learn.md, tried anew: what learn says of real programs (root, Debian)
	.ci/learn

kernel: ## the tests of the sockets under Debian's kernel, in a virtual machine
	.ci/kernel

ci: ## all that must pass before a change lands (root, Debian)
	.ci/run

.PHONY: help build test race lint vuln fuzz bench faults attack soak systemd brokers programs learn kernel ci
