.DEFAULT_GOAL := help

# The folder of a function is functions/<name>; its logical id in template.yaml is the same name in CamelCase. This is the only place
# where the one becomes the other: ListWithProvision → list-with-provision.
FUNCTIONS := $(patsubst functions/%/main.go,%,$(wildcard functions/*/main.go))
folder     = $(shell printf %s '$(1)' | sed -E 's/([a-z])([A-Z])/\1-\2/g' | tr '[:upper:]' '[:lower:]')

# The processor to build for: this machine's for what runs here, and the template's default for what SAM deploys, since SAM does not
# tell make which one it is. GOARCH overrides both.
SAM_GOARCH := $(or $(GOARCH),arm64)
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
