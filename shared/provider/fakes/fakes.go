// Package fakes is the one list of the fakes of the third parties that package provider lists. It
// stands apart from that because functions have no use for them.
package fakes

import (
	"time"

	"managed-credentials/shared/local/thirdparty"
	ayrshare "managed-credentials/shared/provider/ayrshare/fake"
	openai "managed-credentials/shared/provider/openai/fake"
	openrouter "managed-credentials/shared/provider/openrouter/fake"
)

// New make the fakes, by the providers' names: all but AgentMail's, which has settings in variables
// of its own, and a port.
var New = map[string]func(now func() time.Time) thirdparty.Fake{
	"ayrshare":    ayrshare.Local,
	"open_router": openrouter.Local,
	"openai":      openai.Local,
}
