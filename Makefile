.DEFAULT_GOAL := help

# The folder of a function is functions/<name>; its logical id in template.yaml is the same name in CamelCase. This is the only place
# where the one becomes the other: ListWithProvision → list-with-provision.
FUNCTIONS := $(patsubst functions/%/main.go,%,$(wildcard functions/*/main.go))
folder     = $(shell printf %s '$(1)' | sed -E 's/([a-z])([A-Z])/\1-\2/g' | tr '[:upper:]' '[:lower:]')

# The processor to build for: this machine's for what runs here, and the template's default for what SAM builds, since SAM does not
# tell make which one it is. GOARCH overrides both.
SAM_GOARCH := $(or $(GOARCH),amd64)
GOARCH     ?= $(shell go env GOARCH)

# $(call compile,<function>,<output>,<processor>). lambda.norpc leaves out what only the retired go1.x runtime needs; the rest makes
# the binary small, static, and the same wherever a commit is built.
compile = CGO_ENABLED=0 GOOS=linux GOARCH=$(3) go build -tags lambda.norpc -trimpath -ldflags "-s -w -buildid=" -o "$(2)" ./functions/$(1)

.PHONY: help
help: ## list the targets
	@awk -F ':.*## ' '/^[a-z][a-z-]*:.*## / { printf "%-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: build
build: $(FUNCTIONS:%=dist/%/bootstrap) ## build every function's Linux binary into dist/<function>/bootstrap

# Always: go decides by itself what there is to do.
dist/%/bootstrap: always
	$(call compile,$*,$@,$(GOARCH))

.PHONY: always
always:

# What `sam build` calls, one target a function: build-<LogicalId>.
build-%: always
	$(call compile,$(call folder,$*),$${ARTIFACTS_DIR:?is set by sam build}/bootstrap,$(SAM_GOARCH))

.PHONY: run
run: build ## run the whole service on this machine
	@go run ./shared/local/cmd/run

# COUNT runs the tests several times over, RUN those that match.
COUNT ?= 1

.PHONY: test
test: build ## run all tests, on real parts (COUNT=20 repeats them)
	go test -race -count=$(COUNT) -timeout 60m ./...

# Tools written in Python, pinned, in an environment of their own.
VENV := .venv
$(VENV)/bin/cfn-lint:
	python3 -m venv $(VENV)
	$(VENV)/bin/pip install --quiet cfn-lint==1.58.0

.PHONY: lint
lint: $(VENV)/bin/cfn-lint ## check format, vet, staticcheck and the template
	test -z "$$(gofmt -l functions shared)" || { gofmt -d functions shared; exit 1; }
	go vet ./...
	go run honnef.co/go/tools/cmd/staticcheck@v0.8.2 ./...
	$(VENV)/bin/cfn-lint template.yaml

.PHONY: mutate
mutate: build ## take each guard out in turn and see a test fail
	go run ./shared/proof/mutate
