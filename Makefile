.DEFAULT_GOAL := help

include tools.mk

# The folder of a function is functions/<name>; its logical id in template.yaml is the same name in
# CamelCase. This is the only place where the one becomes the other: ListWithProvision →
# list-with-provision.
FUNCTIONS := $(patsubst functions/%/main.go,%,$(wildcard functions/*/main.go))
folder     = $(shell printf %s '$(1)' | sed -E 's/([a-z])([A-Z])/\1-\2/g' | tr '[:upper:]' '[:lower:]')

# The processor to build for: this machine's for what runs here, unless GOARCH says another; and for
# what SAM builds the template's, since SAM does not tell make which one it is. A GOARCH that says
# otherwise would be deployed as what cannot start.
TEMPLATE   ?= template.yaml
PROCESSOR  := $(shell sed -n 's/^    Default: &Processor \([a-z0-9_]*\).*/\1/p' $(TEMPLATE))
SAM_GOARCH := $(if $(filter arm64,$(PROCESSOR)),arm64,$(if $(filter x86_64,$(PROCESSOR)),amd64))
GIVEN      := $(GOARCH)
GOARCH     ?= $(shell go env GOARCH)

# What each function logs when it starts. It comes from a file, and not from git: SAM builds in a
# copy, where nothing is known of git.
VERSION := $(shell cat VERSION)

# lambda.norpc leaves out what only the retired go1.x runtime needs; the rest makes a binary small,
# static, and the same wherever a commit is built.
COMPILE := CGO_ENABLED=0 go build -tags lambda.norpc -trimpath -buildvcs=false \
	-ldflags "-s -w -buildid= -X managed-credentials/shared/invocation.version=$(VERSION)"

# The integrations page, which is made of web/ into page/, and its tests. What is in page/ is made
# together with its index.html.
PAGE      := functions/integrations-page
PAGE_MADE := $(PAGE)/page/index.html

# What a binary is made from.
SOURCES := go.mod go.sum VERSION $(PAGE_MADE) $(shell find functions shared -type f -not -name '*_test.go' -not -path '*/node_modules/*' -not -path '*/events/*' \
	-not -path '$(PAGE)/page/*' -not -path '$(PAGE)/web/*' -not -path '$(PAGE)/browsertest/*' -not -path '$(PAGE)/lighthouse/*')

.PHONY: help
help: ## list the targets
	@awk -F ':.*## ' '/^[a-z][a-z-]*:.*## / { printf "%-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: build
build: dist/.built-$(GOARCH) ## build every function's Linux binary into dist/<function>/bootstrap

dist/.built-$(GOARCH): $(SOURCES)
	@rm -f dist/.built-*
	GOOS=linux GOARCH=$(GOARCH) $(COMPILE) -o dist/.new/ ./functions/...
	@for f in $(FUNCTIONS); do mkdir -p dist/$$f && mv dist/.new/$$f dist/$$f/bootstrap || exit 1; done
	@touch $@

$(PAGE_MADE): $(PAGE)/web/node_modules/.package-lock.json $(PAGE)/web/build.js $(wildcard $(PAGE)/web/src/*) shared/catalogue/catalogue.json
	cd $(PAGE)/web && npm run --silent build

%/node_modules/.package-lock.json: %/package.json %/package-lock.json
	cd $* && npm ci --no-audit --no-fund
	touch $@

# What `sam build` calls, one target a function: build-<LogicalId>.
build-IntegrationsPage: $(PAGE_MADE)
build-%:
	@test -n "$(SAM_GOARCH)" || { echo "$(TEMPLATE) names no processor, x86_64 or arm64, as the default of Architecture" >&2; exit 1; }
	@test "$(or $(GIVEN),$(SAM_GOARCH))" = "$(SAM_GOARCH)" || { echo "GOARCH is $(GIVEN), and $(TEMPLATE) deploys for $(PROCESSOR): \
	change the default of Architecture there, or leave GOARCH out" >&2; exit 1; }
	GOOS=linux GOARCH=$(SAM_GOARCH) $(COMPILE) -o "$${ARTIFACTS_DIR:?is set by sam build}/bootstrap" ./functions/$(call folder,$*)

# What runs here is built for this machine's own system, which only on Linux is what is deployed.
HOST     := $(shell go env GOHOSTOS)
RUN_DIST := $(if $(filter linux,$(HOST)),dist,dist/$(HOST))

# What has to be there, each with the line that brings it: needs,<command that succeeds if it
# is>,<what is missing>,<the line>.
, := ,
needs = @{ $(1); } >/dev/null 2>&1 || { echo "$(2) is missing: $(3)" >&2; exit 1; }

.PHONY: needs-run needs-test needs-python
needs-run:
	$(call needs,command -v go,Go 1.26,https://go.dev/dl has it)
	$(call needs,command -v npm,npm,on Debian apt-get install npm; elsewhere https://nodejs.org has it)
	$(call needs,java -version || docker version,Java 11 or newer (or Docker),on Debian apt-get install default-jre-headless; elsewhere https://adoptium.net has it)
	@test -d dist || echo "Compiling; the first time this takes a few minutes …"

needs-test: needs-run
	$(call needs,command -v $$(go env CC),the C compiler of the race detector,on Debian apt-get install gcc libc6-dev)

needs-python:
	$(call needs,python3 -c 'import sys$(,) venv$(,) ensurepip; sys.exit(sys.version_info < (3$(,) 11))',Python 3.11 with venv,on Debian apt-get install python3-venv; elsewhere https://www.python.org has it)

.PHONY: demo
demo: needs-run build ## show in half a minute what the service promises
	@go run ./shared/local/cmd/demo

.PHONY: run
run: needs-run dist/.run $(if $(filter linux,$(HOST)),build) ## run the whole service on this machine
	@dist/.run -dist $(RUN_DIST)

dist/.run: $(SOURCES)
ifneq ($(HOST),linux)
	$(COMPILE) -o dist/.new/ ./functions/...
	@for f in $(FUNCTIONS); do mkdir -p $(RUN_DIST)/$$f && mv dist/.new/$$f $(RUN_DIST)/$$f/bootstrap || exit 1; done
endif
	$(COMPILE) -o $@ ./shared/local/cmd/run

# COUNT runs the tests several times over.
COUNT ?= 1

.PHONY: test
test: needs-test build ## run all tests, on real parts (COUNT=20 repeats them)
	cd $(PAGE)/web && npm test --silent
	go test -race -count=$(COUNT) -timeout 60m $$(go list ./... | grep -vE 'proof/(crash|processes|sim)$$')
	@# These by themselves, so that one sees how much they have explored; the last two without the detector, in half the time.
	cd shared/proof/processes && go test -race -count=$(COUNT) -timeout 60m
	cd shared/proof/crash && go test -count=$(COUNT) -timeout 60m
	cd shared/proof/sim && go test -count=$(COUNT) -timeout 60m -schedules=50000 -within=1m

# On a quiet machine, with Linux: what counts is the ratios, but their spread grows with the noise.
.PHONY: bench
bench: needs-run build ## measure the functions beside bare ones, into dist/bench.json (minutes)
	@go run ./shared/proof/bench -out $(abspath dist)/bench.json

# FUZZTIME is how long each target is fuzzed.
FUZZTIME ?= 30s

.PHONY: fuzz
fuzz: ## fuzz every parser of outside data (FUZZTIME=10m for longer)
	go run ./shared/proof/fuzz -time $(FUZZTIME)

# More at a time than there are processors: half of each invocation is waiting for its container.
.PHONY: test-sam
test-sam: needs-python ## run the functions under AWS SAM, with each of their events (minutes; needs Python, and Docker or root on Debian)
	go test -count=1 -v -parallel 4 -timeout 40m ./shared/proof/sam -sam $(SAM_CLI)

# What is written in Python, each in an environment of its own. Of moto's server it is the two
# services that are compared, and none of the other hundred's packages; parliament holds the
# policies to AWS's lists of actions, resources and condition keys.
VENV := .venv
environment = python3 -m venv $(VENV)/$(1) && $(VENV)/$(1)/bin/pip install --quiet $(2)

$(VENV)/lint/bin/checkov: tools.mk | needs-python
	$(call environment,lint,$(LINT_PACKAGES))
	@touch $@

$(VENV)/parliament/bin/parliament: tools.mk | needs-python
	$(call environment,parliament,$(PARLIAMENT_PACKAGES))
	@touch $@

$(VENV)/moto/bin/moto_server: tools.mk | needs-python
	$(call environment,moto,$(MOTO_PACKAGES))
	@touch $@

$(VENV)/schemathesis/bin/schemathesis: tools.mk | needs-python
	$(call environment,schemathesis,$(SCHEMATHESIS_PACKAGES))
	@touch $@

.PHONY: test-moto
test-moto: $(VENV)/moto/bin/moto_server ## hold the stand-ins for KMS and Secrets Manager, and moto's server, to the same cases
	go test -count=1 ./shared/proof/moto -moto $(abspath $<)

# SAM, beside an emulator of AWS, AWS's command line and its translator of SAM's templates.
DEPLOYTEST := shared/proof/deploy
$(VENV)/sam/bin/sam: tools.mk | needs-python
	$(call environment,sam,aws-sam-cli==$(SAM_CLI))
	@touch $@

$(VENV)/deploy/installed: $(DEPLOYTEST)/requirements.txt | needs-python
	$(call environment,deploy,--require-hashes -r $<)
	@touch $@

.PHONY: test-deploy
test-deploy: $(VENV)/sam/bin/sam $(VENV)/deploy/installed $(PAGE_MADE) ## deploy with SAM to an emulator of AWS, use, update, delete, deploy again (minutes; needs Python)
	go test -count=1 -v -timeout 30m ./$(DEPLOYTEST) -sam $(abspath $<) -tools $(abspath $(VENV)/deploy)

.PHONY: test-api
test-api: $(VENV)/schemathesis/bin/schemathesis build ## have a fuzzer of others try the service by docs/openapi.yaml (a minute; needs Python)
	go test -count=1 -v -timeout 5m ./shared/proof/schemathesis -schemathesis $(abspath $<)

# What makes clients of docs/openapi.yaml, and what they need. The folder's name begins with a dot,
# so that Go does not look for packages there: some of npm's have Go files.
CLIENTS   := shared/proof/clients
GENERATOR := $(VENV)/$(subst :,-,$(OPENAPI_GENERATOR)).jar
$(VENV)/clients/installed: $(CLIENTS)/python/requirements.txt | needs-python
	$(call environment,clients,-r $<)
	touch $@

$(VENV)/node-%/node_modules/.package-lock.json:
	@mkdir -p $(VENV)/node-$*
	cp $^ $(VENV)/node-$*
	cd $(VENV)/node-$* && npm ci --no-audit --no-fund
	touch $@
$(VENV)/node-clients/node_modules/.package-lock.json: $(CLIENTS)/typescript/package.json $(CLIENTS)/typescript/package-lock.json

$(GENERATOR):
	@command -v mvn > /dev/null || { echo "OpenAPI Generator comes through Maven: apt-get install maven" >&2; exit 1; }
	mvn --quiet --batch-mode dependency:copy -Dartifact=$(OPENAPI_GENERATOR) -DoutputDirectory=$(abspath $@.new)
	echo "$(OPENAPI_GENERATOR_SHA256)  $$(ls $@.new/*.jar)" | sha256sum --check --quiet
	mv $@.new/*.jar $@

.PHONY: test-clients
test-clients: needs-run $(VENV)/clients/installed $(VENV)/node-clients/node_modules/.package-lock.json $(GENERATOR) build ## run the clients that others' generators make of docs/openapi.yaml (minutes; needs Python and Maven)
	go test -count=1 -timeout 15m ./$(CLIENTS) -node $(abspath $(VENV)/node-clients) -python $(abspath $(VENV)/clients) \
		-generator $(abspath $(GENERATOR)) -codegen $(OAPI_CODEGEN)

# AgentMail's Python SDK, and what it needs, by their hashes.
SDKTEST := shared/provider/agentmail/sdktest
$(VENV)/sdk/installed: $(SDKTEST)/requirements.txt | needs-python
	$(call environment,sdk,--require-hashes -r $<)
	touch $@

.PHONY: test-sdk
test-sdk: $(VENV)/sdk/installed ## hold each fake to its third party's own SDK, AgentMail's also to the one in Python
	go test -count=1 $(patsubst %,./%,$(wildcard shared/provider/*/sdktest))
	go test -count=1 ./$(SDKTEST) -run Python -python $(abspath $(VENV)/sdk/bin/python)

LIGHTHOUSE := $(PAGE)/lighthouse
$(VENV)/node-lighthouse/node_modules/.package-lock.json: $(LIGHTHOUSE)/package.json $(LIGHTHOUSE)/package-lock.json

# On a quiet machine: it measures time.
.PHONY: lighthouse
lighthouse: needs-run $(VENV)/node-lighthouse/node_modules/.package-lock.json build ## have Lighthouse judge the page (minutes; needs Chromium)
	go test -count=1 -v -timeout 15m ./$(LIGHTHOUSE) -node $(abspath $(VENV)/node-lighthouse) $(if $(CHROMIUM),-chromium $(CHROMIUM))

.PHONY: lint lint-api lint-code lint-page lint-template
lint: lint-api lint-code lint-page lint-template ## check format, the code, its modules, types, the template and the contract

APILINT := shared/proof/contract/lint
$(VENV)/node-apilint/node_modules/.package-lock.json: $(APILINT)/package.json $(APILINT)/package-lock.json
lint-api: export REDOCLY_TELEMETRY := off
lint-api: export REDOCLY_SUPPRESS_UPDATE_NOTICE := true
lint-api: $(VENV)/node-apilint/node_modules/.package-lock.json
	cd $(APILINT) && $(abspath $(VENV)/node-apilint/node_modules/.bin)/redocly lint --config redocly.yaml ../../../../docs/openapi.yaml
	cd $(APILINT) && $(abspath $(VENV)/node-apilint/node_modules/.bin)/spectral lint --ruleset spectral.yaml --fail-severity hint ../../../../docs/openapi.yaml

lint-code:
	test -z "$$(gofmt -l functions shared)" || { gofmt -d functions shared; exit 1; }
	go mod verify
	go mod tidy -diff
	go run $(GOLANGCI_LINT) run

lint-page: $(PAGE)/web/node_modules/.package-lock.json $(PAGE)/web/types/node_modules/.package-lock.json
	cd $(PAGE)/web && npm run --silent check

# checkov passes over what a condition does not make, and so is shown the template with a trail. It
# is to fetch nothing.
lint-template: $(VENV)/lint/bin/checkov $(VENV)/parliament/bin/parliament
	$(VENV)/lint/bin/cfn-lint template.yaml
	@mkdir -p dist
	sed "s/Default: 'false'/Default: 'true'/" template.yaml > dist/template-with-trail.yaml
	$(VENV)/lint/bin/checkov --framework cloudformation --compact --quiet --skip-download --file dist/template-with-trail.yaml
	go test -count=1 ./shared/proof/sam -run OutsideLinter -parliament $(abspath $(VENV)/parliament/bin/parliament)

TLC := dist/tlc/$(subst :,-,$(TLA_TOOLS)).jar
$(TLC):
	@command -v mvn > /dev/null || { echo "TLC comes through Maven: apt-get install maven" >&2; exit 1; }
	mvn --quiet --batch-mode dependency:copy -Dartifact=$(TLA_TOOLS) -DoutputDirectory=$(abspath $(dir $@).new)
	echo "$(TLA_TOOLS_SHA256)  $$(ls $(dir $@).new/*.jar)" | sha256sum --check --quiet
	mv $(dir $@).new/*.jar $@

.PHONY: spec
spec: $(TLC) ## have TLC check the specification of the protocol, each of its rules, and that the code keeps to it
	cd shared/proof/spec && go test -count=1 -timeout 120m -tlc $(abspath $(TLC)) -attempts $(ATTEMPTS)
	cd shared/proof/sim && go test -count=1 -timeout 120m -run Specification -tlc $(abspath $(TLC)) -histories $(HISTORIES)

# ATTEMPTS is how many claims a behaviour of the specification has at most.
ATTEMPTS ?= 3

# HISTORIES is how many histories of the simulation are held to the specification.
HISTORIES ?= 1000

.PHONY: vuln
vuln: ## look the dependencies up in Go's vulnerability database
	go run $(GOVULNCHECK) ./...

.PHONY: licences
licences: $(PAGE)/web/node_modules/.package-lock.json ## write docs/licences.md anew (`make test` checks it)
	go test -count=1 ./shared/proof/supply -run Licence -update

.PHONY: reproduce
reproduce: ## build the functions twice, in different places, and compare the bytes (minutes)
	go test -count=1 -timeout 20m ./shared/proof/supply -run Bytes -reproduce

# Of each function, from what the compiler linked into it, and of the page, from its lockfile.
.PHONY: sbom
sbom: build ## write what each function is made of into dist/sbom, as CycloneDX
	@mkdir -p dist/sbom
	@for f in $(FUNCTIONS); do \
		go run $(CYCLONEDX_GOMOD) bin -json -noserial -version $(VERSION) -output dist/sbom/$$f.cdx.json dist/$$f/bootstrap || exit 1; \
	done
	@cd $(PAGE)/web && npm sbom --omit=dev --package-lock-only --sbom-format=cyclonedx > $(abspath dist)/sbom/page.cdx.json
	@echo "dist/sbom has $$(ls dist/sbom | wc -l) lists"

# What runs this long is worth java's better compiler, which takes its time, and more memory.
.PHONY: prove
prove: export _JAVA_OPTIONS := -XX:TieredStopAtLevel=4
prove: export GOGC := 400
prove: build ## search pairs of faults, many random schedules, and more of everything (three hours)
	@# First what real clocks judge, then what only takes long.
	cd shared/proof/processes && go test -count=1 -timeout 30m -chaos=2m
	cd shared/proof/latency && go test -count=1 -timeout 30m -prove
	cd shared/proof/sim && go test -count=1 -timeout 60m -schedules=1000000 -within=30m -seed=1000000 -twice=1000
	cd shared/proof/crash && go test -count=1 -timeout 180m -run 'Pair|RandomSchedule' -prove -rapid.checks=500
	$(MAKE) spec HISTORIES=20000

.PHONY: mutate
mutate: build ## remove each guard in turn and check that a test fails
	go run ./shared/proof/mutate

.PHONY: cover-sim
cover-sim: ## print how much of the engine and the store the simulation reaches
	@mkdir -p dist
	cd shared/proof/sim && go test -count=1 -run '^TestNoScheduleBreaksAPromise$$' -coverpkg=managed-credentials/shared/managed,managed-credentials/shared/store \
	  -coverprofile=$(abspath dist/sim.cover) -worker -schedules=5000
	go tool cover -func=dist/sim.cover

# SCHEDULES is how many schedules the simulation has for each mutation: a minute's worth on one
# processor.
SCHEDULES ?= 20000

.PHONY: mutate-sim
mutate-sim: ## remove each guard in turn and have the simulation look for it
	go run ./shared/proof/mutate -sim $(SCHEDULES)

# Gremlins only says what it would change; the simulation is what looks for it.
.PHONY: mutate-gremlins
mutate-gremlins: ## have the simulation look for every tenth change that a mutation tool of others makes
	@rm -rf dist/gremlins && mkdir -p dist/gremlins/without-tests
	@# It would run the tests first, to see what they cover; here the simulation is what is asked.
	git archive HEAD go.mod go.sum shared | tar x -C dist/gremlins/without-tests --exclude '*_test.go'
	for p in store managed; do (cd dist/gremlins/without-tests && \
	  go run $(GREMLINS) unleash --dry-run -o ../$$p.json ./shared/$$p > ../$$p.txt) || exit 1; done
	go run ./shared/proof/mutate -sim $(SCHEDULES) -gremlins dist/gremlins/store.json,dist/gremlins/managed.json -every 10
