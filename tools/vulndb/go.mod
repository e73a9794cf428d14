// Pins the vulnerability data that `make vuln` compares with: go.sum holds its checksum.
// The module has no package we import, so `go mod tidy` would drop it: don't run it here.
// To take newer data: go -C tools/vulndb get golang.org/x/vulndb@latest
module github.com/cloudbot-ai/control-plane/tools/vulndb

go 1.26.0

require golang.org/x/vulndb v0.0.0-20261105234957-e22db6528018
