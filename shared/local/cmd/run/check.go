package main

import (
	"errors"
	"fmt"
	"maps"
	"net/url"
	"os"
	"regexp"
	"slices"
	"strings"

	"managed-credentials/shared/config"
	"managed-credentials/shared/managed"
	"managed-credentials/shared/provider"
)

// check finds what is wrong with the settings before anything is started. declared is .env.default,
// which has every setting there is.
func (s settings) check(declared string) error {
	text, err := os.ReadFile(declared)
	if err != nil {
		return fmt.Errorf("reading the names of the settings: %w", err)
	}
	var known []string
	for _, match := range regexp.MustCompile(`(?m)^([A-Z_]+)=`).FindAllStringSubmatch(string(text), -1) {
		known = append(known, match[1])
	}
	var wrong []error
	for _, name := range slices.Sorted(maps.Keys(s.file)) {
		if !slices.Contains(known, name) {
			meant := slices.MinFunc(known, func(a, b string) int { return distance(name, a) - distance(name, b) })
			wrong = append(wrong, fmt.Errorf("there is no setting %s: did you mean %s? .env.default has them all", name, meant))
		}
	}
	return errors.Join(append(wrong, s.values())...)
}

// values reads the settings as the functions do, each of which would fail with what is wrong here.
func (s settings) values() error {
	e := config.From(func(name string) string { return s.get(name, "") })
	budget, lease := e.Budget(), e.Lease()
	e.GoneFloor()
	e.GoneShare()
	e.UnknownAfter()
	e.DeletesUnknown()
	e.MaxCredentials()
	e.Holdback()
	e.AgentMailRate()
	e.SealOpenFields()
	e.Suspends()
	e.SuspendedKeysLive()
	e.AgentMailAdopts()
	e.LogLevel()
	e.SystemCredentials()
	err := e.Err()
	if err != nil {
		return err
	}
	_, err = s.origins()
	if err != nil {
		return err
	}
	_, err = managed.New(managed.Config{Budget: budget, Lease: lease})
	var c managed.Config
	provider.Configure(&c, e)
	return errors.Join(append(slices.Collect(maps.Values(c.Faults)), err)...)
}

// origins are those of other sites whose pages may call the API.
func (s settings) origins() ([]string, error) {
	value := s.get("ALLOWED_ORIGINS", "")
	if value == "" {
		return nil, nil
	}
	origins := strings.Split(value, ",")
	for _, origin := range origins {
		parsed, err := url.Parse(origin)
		if err != nil || parsed.Scheme != "http" && parsed.Scheme != "https" || parsed.Host == "" || origin != strings.ToLower(parsed.Scheme+"://"+parsed.Host) {
			return nil, fmt.Errorf("ALLOWED_ORIGINS has to be origins such as https://app.example.com, with commas between them, not %q", value)
		}
	}
	return origins, nil
}

// distance is how many letters have to be added, left out or replaced to make one name of the
// other.
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			replaced := diagonal
			if a[i] != b[j] {
				replaced++
			}
			diagonal = row[j+1]
			row[j+1] = min(replaced, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}
