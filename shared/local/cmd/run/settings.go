package main

import (
	"errors"
	"fmt"
	"os"
	"strings"

	"managed-credentials/shared/local/template"
)

// settings are variables from .env and the environment, which wins.
type settings struct {
	file   map[string]string
	lookup func(string) (string, bool)
}

// readSettings reads a file of NAME=value lines, each without expansion and without the quotes that
// may stand around its value. The file may begin with a byte-order mark. There may be none.
func readSettings(file string, lookup func(string) (string, bool)) (settings, error) {
	s := settings{file: map[string]string{}, lookup: lookup}
	text, err := os.ReadFile(file)
	if errors.Is(err, os.ErrNotExist) {
		return s, nil
	}
	if err != nil {
		return settings{}, fmt.Errorf("reading settings: %w", err)
	}
	number := 0
	for line := range strings.Lines(strings.TrimPrefix(string(text), "\ufeff")) {
		number++
		line = strings.TrimSpace(line)
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		name, value, ok := strings.Cut(line, "=")
		if !ok {
			return settings{}, fmt.Errorf("reading settings: line %d of %s is not NAME=value", number, file) // It may be a key: not shown.
		}
		s.file[strings.TrimSpace(name)] = unquoted(strings.TrimSpace(value))
	}
	return s, nil
}

// unquoted is a value without the quotes around it, if there is the same one at both ends.
func unquoted(value string) string {
	for _, quote := range []string{`"`, `'`} {
		inner, ok := strings.CutPrefix(value, quote)
		inner, closed := strings.CutSuffix(inner, quote)
		if ok && closed {
			return inner
		}
	}
	return value
}

// get returns a setting, or the fallback if it is empty.
func (s settings) get(name, fallback string) string {
	value, ok := s.lookup(name)
	if !ok {
		value = s.file[name]
	}
	if value == "" {
		return fallback
	}
	return value
}

// functions are the settings among the functions' variables. The table is called the same in every
// run.
func (s settings) functions(deployed []template.Function) map[string]string {
	env := map[string]string{"TABLE_NAME": "managed-credentials"}
	for _, f := range deployed {
		for _, name := range f.Variables {
			value := s.get(name, "")
			if value != "" {
				env[name] = value
			}
		}
	}
	return env
}
