# CloudBot control plane. `make help` lists the targets.
SHELL := /bin/bash
.DEFAULT_GOAL := help

# A release of Go without known vulnerabilities. Go downloads it as a module if another one is installed.
export GOTOOLCHAIN := go1.27.3

# The same commit builds the same bytes, with or without its repository: the length of its short name is fixed, and
# its full name and its time come from here and not from Go.
VERSION ?= $(shell git describe --tags --always --abbrev=12 --dirty 2>/dev/null || echo dev)
COMMIT ?= $(shell git rev-parse HEAD 2>/dev/null)
COMMITTED ?= $(shell TZ=UTC git log -1 --date=format-local:%Y-%m-%dT%H:%M:%SZ --format=%cd 2>/dev/null)
LDFLAGS := -s -w -X main.version=$(VERSION) -X main.commit=$(COMMIT) -X main.committed=$(COMMITTED)
GOBUILD := CGO_ENABLED=0 GOFLAGS= GOAMD64=v1 GOARM64=v8.0 go build -trimpath -buildvcs=false -ldflags '$(LDFLAGS)'
TOOL    := go tool -modfile=tools/go.mod

.PHONY: help
help: ## List the targets
	@awk -F ':.*## ' '/^[a-z][a-z0-9-]*:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: run
run: prerequisites build ## Run everything on embedded defaults and print the URL
	@exec bin/cloudbot serve

.PHONY: agent
agent: ## Install the real agent, OpenClaw, for desktops on this computer (900 MB, a minute or two)
	@deploy/agent.sh

.PHONY: clean-agent
clean-agent: ## Remove what make agent installed
	@deploy/agent.sh --remove

.PHONY: run-ec2
run-ec2: prerequisites build guests ## Run everything with machines on EC2, against our own small EC2 server
	@go build -o bin/ec2test ./adapters/ec2/ec2test/cmd/ec2test
	@deploy/run-ec2.sh

.PHONY: test
test: prerequisites browser testing lint build ## Linters, then all tests: with the race detector on real Postgres and JetStream, and in a browser
	go test -race -vet=off -p 3 -parallel 4 -timeout 20m ./e2e ./adapters/ec2 ./commands/biller ./... # the longest first; lint has run go vet
	cd web && npm run --silent unit && npm run --silent e2e

.PHONY: faults
faults: prerequisites testing build ## Run only the fault tests, with more seeds than make test, and print which faults they met, how often
	@set -o pipefail; LONG=1 go test -count=1 -v -timeout 30m -run '$(FAULTS)' ./fair ./commands/... ./eventstore/... ./migrations ./projections ./adapters/... ./e2e/... | \
	  grep -vE '^ *(=== |--- PASS)|^$$|no test files'

# Faults of the log, the cloud and Stripe; of parts that exist but cannot work; hostile clients; restarts, clusters and clocks.
FAULTS := Schedules|TwoSagas|Kill|Planted|WipedStream|Replicas|NATSAbsent
FAULTS := $(FAULTS)|Able|Turns|Grace|UnknownMachine|Probe|Unable|Pooler|Refused|ReadOnly|Standby|FewConnections|PoolOfTwo|HoldsNoConnection|Damage|TooLarge|BrokenStream|FullDisk
FAULTS := $(FAULTS)|Hostile|Large|Greetings|Flood|LatestPhase|Process|Frozen|LongStream|StaleReplicas|TheOthersEvents|ARestoredLog
FAULTS := $(FAULTS)|Moving|RollingRestart|InTheMiddle|DatabaseRestarts|DatabaseTroubles|Cluster|Follow|ConnectionFinds|Restored|Resumes|Clock|NATSReader|NATSCopy|WorksOnce|ReadYourWrites

.PHONY: month
month: ## Simulate 200 desktops on a small EC2 for a month, and compare the charges with its bill (minutes; MONTH=SEED)
	E2E_MONTH=$(or $(MONTH),11) go test -count=1 -v -timeout 40m -run '^TestMonth$$' ./adapters/ec2

.PHONY: test-web
test-web: prerequisites browser build ## Run only the dashboard's tests (WEB='workspace -g mouse' selects some)
	cd web && npm run --silent lint && npm run --silent unit && npm run --silent e2e -- $(WEB)

.PHONY: e2e-machine
e2e-machine: prerequisites build ## Boot a real Debian machine and test it, as root (OPENCLAW=real: with the real agent)
	E2E_MACHINE=1 go test -count=1 -v -timeout 25m ./e2e/machine

.PHONY: systemd-test
systemd-test: prerequisites build guests ## Follow deploy/systemd/README.md on a bare Debian, as root (RELEASE=FILE: with this archive)
	E2E_SYSTEMD=1 go test -count=1 -v -timeout 25m -run TestSystemdPage ./e2e/machine

.PHONY: e2e-agent
e2e-agent: prerequisites build ## Have the real OpenClaw of the PATH work on a local desktop, with the test as its model
	OPENCLAW=real go test -count=1 -v -timeout 15m -run 'TestLocalDesktop' ./e2e/machine

.PHONY: rolling
rolling: prerequisites ## Roll from the previous release to this one and back, under load, and print counts (minutes, all cores)
	E2E_ROLLING=1 go test -count=1 -v -timeout 30m -run '^TestRolling$$' ./e2e

.PHONY: build
build: web/dist/index.html ## Build the dashboard, bin/cloudbot and bin/cloudbot-guest
	@mkdir -p bin
	$(GOBUILD) -o bin/cloudbot ./cmd/cloudbot
	$(GOBUILD) -o bin/cloudbot-guest ./cmd/cloudbot-guest

.PHONY: server
server: # bin/cloudbot alone, with the dashboard that is in web/dist
	@mkdir -p bin
	$(GOBUILD) -o bin/cloudbot ./cmd/cloudbot

.PHONY: image
image: ## Build the container image (BASES=local: without a registry, from this computer's own Go and Node)
	@VERSION='$(VERSION)' COMMIT='$(COMMIT)' COMMITTED='$(COMMITTED)' deploy/image/build.sh

.PHONY: image-test
image-test: prerequisites testing build ## Build the image and run the story on deploy/compose, as root with podman (BASES=local: without a registry)
	@deploy/compose/test.sh

.PHONY: release
release: web/dist/index.html ## Build the archives of a release in ./release, with their parts (SBOM) and checksums
	@VERSION='$(VERSION)' COMMITTED='$(COMMITTED)' GOBUILD="$(GOBUILD)" deploy/release.sh

.PHONY: reproducible
reproducible: ## Build the last commit's release twice, in different folders, and compare the bytes (takes minutes)
	@deploy/reproducible.sh

.PHONY: guests
guests: ## Build the guests that machines on EC2 download, for both architectures, beside bin/cloudbot
	@mkdir -p bin
	for arch in amd64 arm64; do GOOS=linux GOARCH=$$arch $(GOBUILD) -o bin/cloudbot-guest-linux-$$arch ./cmd/cloudbot-guest || exit; done

web/node_modules/.package-lock.json: web/package.json web/package-lock.json
	@node -e 'const [a, b] = process.versions.node.split("."); process.exit(a > 20 || (a == 20 && b >= 19) ? 0 : 1)' && command -v npm >/dev/null || \
	  { echo "please install Node 20.19 or newer with npm: the dashboard is built with it" >&2; exit 1; }
	@cd web && npm ci --loglevel=error
	@touch $@

web/dist/index.html: web/node_modules/.package-lock.json $(wildcard $(shell git ls-files -co --exclude-standard web ':!web/e2e' ':!web/*.go' ':!web/*.test.ts' 2>/dev/null)) adapters/httpapi/api/openapi.json
	@cd web && npm run --silent build || { rm -f dist/index.html; exit 1; }

.PHONY: story
story: prerequisites build ## Play the main user story against a server and show the transcript
	STORY=1 CGO_ENABLED=0 go test -trimpath -count=1 -v -run '^TestStory$$' ./e2e

.PHONY: restore-drill
restore-drill: prerequisites testing build ## Back up, lose work, restore with machines on a small EC2, and print the counts
	E2E_DRILL=1 go test -count=1 -v -run 'TestRestoreDrill|TestRestorePrivate' ./e2e

.PHONY: bench
bench: prerequisites ## Measure the log against pgbench and COPY in the same run, and our part of a launch
	go run ./bench

# vet and staticcheck compile with the flags of build, so that they share its packages.
.PHONY: lint
lint: web/node_modules/.package-lock.json vuln ## go mod tidy, gofmt, go vet, staticcheck and govulncheck, and the dashboard's formatter and linter
	go mod tidy -diff
	@out=$$(gofmt -l $$(git ls-files -co --exclude-standard '*.go')); test -z "$$out" || { echo "run make fmt: $$out"; exit 1; }
	CGO_ENABLED=0 go vet -trimpath ./...
	CGO_ENABLED=0 GOFLAGS="$$(go env GOFLAGS) -trimpath" $(TOOL) staticcheck ./...
	cd web && npm run --silent lint

.PHONY: vuln
vuln: ## Look for known vulnerabilities that our code can reach, in the data pinned by tools/vulndb
	tools/vuln.sh

.PHONY: fmt
fmt: web/node_modules/.package-lock.json ## Format the Go code and the dashboard
	gofmt -w $$(git ls-files -co --exclude-standard '*.go')
	cd web && npm run --silent format

.PHONY: openapi
openapi: ## Generate the served openapi.json from openapi.yaml
	go test ./adapters/httpapi -run TestServedDocumentIsTheSource -update

.PHONY: golden
golden: ## Write golden files for new events (old ones stay as they are)
	go test $$(grep -l '\.Golden(' domain/*/*_test.go | xargs -n1 dirname | sed 's,^,./,') -run Golden -update

.PHONY: clean
clean: ## Remove what was built; data/ stays
	rm -rf bin web/dist/* web/node_modules web/artifacts web/test-results

.PHONY: prerequisites
prerequisites:
	@deploy/prerequisites.sh

.PHONY: testing
testing:
	@deploy/prerequisites.sh test

.PHONY: browser
browser:
	@deploy/prerequisites.sh browser
