// Package catalogue knows the providers that users bring credentials for: how each is called, which
// types of credential it takes, where its keys are made, and how they begin. It refuses nothing: a
// provider that it does not know is one all the same.
//
// The data is catalogue.json, which the integrations page is built with, too. A platform extends
// it there.
package catalogue

import (
	_ "embed"
	"encoding/json"
	"fmt"
	"strings"
	"sync"

	"managed-credentials/shared/credential"
)

//go:embed catalogue.json
var data []byte

// Entry is one provider.
type Entry struct {
	// Provider is its name in the API, Name what people call it.
	Provider string `json:"provider"`
	Name     string `json:"name"`
	// Types are those of its credentials, the most usual one first. None means that nothing is
	// known of them.
	Types []credential.Type `json:"types"`
	// Keys is the https address of the page on which its keys are made; "" if there is none.
	Keys string `json:"keys"`
	// Begins are the beginnings of its API keys. None means that they have none in common.
	Begins []string `json:"begins"`
	// Loses says, as a sentence, what is destroyed when a user has their managed credential
	// removed; "" if there is no more to say than that all that was made for them is.
	Loses string `json:"loses"`
}

// entries are in the order of their providers. They are read when they are first needed.
var entries = sync.OnceValue(func() []Entry {
	var all []Entry
	err := json.Unmarshal(data, &all)
	if err != nil {
		panic(fmt.Sprintf("catalogue.json: %v", err)) // the tests have read it
	}
	return all
})

// Meant returns the provider that people mean by a name, such as openai by "Open AI"; "" if it is
// none of the catalogue's.
func Meant(name string) string {
	for _, e := range entries() {
		if squeezed(name) == squeezed(e.Provider) || squeezed(name) == squeezed(e.Name) {
			return e.Provider
		}
	}
	return ""
}

// squeezed is a name without case and what stands between its words.
func squeezed(name string) string {
	return strings.Map(func(r rune) rune {
		if strings.ContainsRune(" ._-", r) {
			return -1
		}
		return r
	}, strings.ToLower(name))
}
