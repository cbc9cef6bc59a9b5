// Package config reads a function's environment and the AWS configuration that goes with it.
package config

import (
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strconv"
	"time"

	"managed-credentials/shared/credential"
)

// Env reads variables and collects what is wrong with them, so that one error names all.
type Env struct {
	lookup func(string) string
	errs   []error
}

// Environ is the process's environment.
func Environ() *Env { return &Env{lookup: os.Getenv} }

// From reads variables by lookup, which returns "" for what is not set.
func From(lookup func(name string) string) *Env { return &Env{lookup: lookup} }

// Err returns what was wrong with the variables read so far.
func (e *Env) Err() error { return errors.Join(e.errs...) }

// Required returns a variable that has to be set.
func (e *Env) Required(name string) string {
	value := e.lookup(name)
	if value == "" {
		e.errs = append(e.errs, fmt.Errorf("%s has to be set", name))
	}
	return value
}

// Optional returns a variable that may be empty.
func (e *Env) Optional(name string) string { return e.lookup(name) }

// Duration returns a variable such as "5s", or the fallback if it is empty.
func (e *Env) Duration(name string, fallback time.Duration) time.Duration {
	value := e.lookup(name)
	if value == "" {
		return fallback
	}
	d, err := time.ParseDuration(value)
	if err != nil || d <= 0 {
		e.errs = append(e.errs, fmt.Errorf("%s has to be a duration such as 5s, not %q", name, value))
	}
	return d
}

// number reads a whole number between two others; fallback, if it is not set.
func (e *Env) number(name, value string, fallback, least, most int) int {
	if value == "" {
		return fallback
	}
	n, err := strconv.Atoi(value)
	if err != nil || n < least || n > most {
		e.errs = append(e.errs, fmt.Errorf("%s has to be a whole number from %d to %d, not %q", name, least, most, value))
	}
	return n
}

// The defaults of the two durations on which the protocol rests.
const (
	DefaultBudget = 5 * time.Second
	DefaultLease  = 60 * time.Second
)

// Audits stop where more seems to be gone than these.
const (
	DefaultGoneFloor = 10
	DefaultGoneShare = 0.02
)

// GoneFloor is how many slots an audit may find to name what is gone, whatever their share.
func (e *Env) GoneFloor() int {
	value := e.lookup("AUDIT_GONE_FLOOR")
	if value == "" {
		return DefaultGoneFloor
	}
	n, err := strconv.Atoi(value)
	if err != nil || n < 0 {
		e.errs = append(e.errs, fmt.Errorf("AUDIT_GONE_FLOOR has to be a whole number such as 10, not %q", value))
	}
	return n
}

// GoneShare is the share of all slots that an audit may find to name what is gone, whatever their
// number.
func (e *Env) GoneShare() float64 {
	value := e.lookup("AUDIT_GONE_SHARE")
	if value == "" {
		return DefaultGoneShare
	}
	share, err := strconv.ParseFloat(value, 64)
	if err != nil || !(share >= 0 && share <= 1) {
		e.errs = append(e.errs, fmt.Errorf("AUDIT_GONE_SHARE has to be a number from 0 to 1 such as 0.02, not %q", value))
	}
	return share
}

// DefaultUnknownAfter is how far apart two looks are at which the user pool does not know a user,
// before an audit reports them.
const DefaultUnknownAfter = 24 * time.Hour

// UnknownAfter is how far apart two looks have to be at which the user pool does not know a user,
// before an audit reports them.
func (e *Env) UnknownAfter() time.Duration {
	return e.Duration("AUDIT_UNKNOWN_AFTER", DefaultUnknownAfter)
}

// DefaultAuditEvery is how long after one audit has begun the schedule begins the next one.
const DefaultAuditEvery = 24 * time.Hour

// AuditEvery is how long after one audit has begun the schedule begins the next one; 0 for "never".
func (e *Env) AuditEvery() time.Duration {
	if e.lookup("AUDIT_EVERY") == "never" {
		return 0
	}
	return e.Duration("AUDIT_EVERY", DefaultAuditEvery)
}

// DefaultAuditSegments is into how many segments an audit takes the table apart, and
// MostAuditSegments is the most.
const (
	DefaultAuditSegments = 4
	MostAuditSegments    = 64
)

// AuditSegments is into how many segments an audit takes the table apart, to look at them side by
// side.
func (e *Env) AuditSegments() int {
	return e.number("AUDIT_SEGMENTS", e.lookup("AUDIT_SEGMENTS"), DefaultAuditSegments, 1, MostAuditSegments)
}

// MinKeyAge is the least that may be allowed as the age of a managed key.
const MinKeyAge = 24 * time.Hour

// MaxKeyAge is how old a managed key may become before another one is made; 0, if it is not set,
// for as old as it likes.
func (e *Env) MaxKeyAge() time.Duration {
	d := e.Duration("MAX_KEY_AGE", 0)
	if d > 0 && d < MinKeyAge {
		e.errs = append(e.errs, fmt.Errorf("MAX_KEY_AGE has to be at least %v, such as 2160h, not %v", MinKeyAge, d))
	}
	return d
}

// DeletesUnknown says whether a repair deletes the users whom an audit reports as unknown to the
// user pool.
func (e *Env) DeletesUnknown() bool {
	return e.flag("AUDIT_DELETES_UNKNOWN", e.lookup("AUDIT_DELETES_UNKNOWN"))
}

// DefaultMaxCredentials is how many credentials of their own a user may have.
const DefaultMaxCredentials = 200

// MaxCredentials is how many credentials of their own a user may have.
func (e *Env) MaxCredentials() int {
	value := e.lookup("MAX_CREDENTIALS")
	if value == "" {
		return DefaultMaxCredentials
	}
	n, err := strconv.Atoi(value)
	if err != nil || n < 1 {
		e.errs = append(e.errs, fmt.Errorf("MAX_CREDENTIALS has to be a whole number from 1 on such as 200, not %q", value))
	}
	return n
}

// Holdback is how long after a deletion what cannot be made again is kept; 0, if it is not set, for
// not at all.
func (e *Env) Holdback() time.Duration {
	d := e.Duration("DELETION_HOLDBACK", 0)
	if d > maxHoldback {
		e.errs = append(e.errs, fmt.Errorf("DELETION_HOLDBACK has to be at most %v, not %v", maxHoldback, d))
	}
	return d
}

const maxHoldback = 30 * 24 * time.Hour

// AgentMailRate is how many calls a second one process may send to AgentMail; 0 if that is not set.
func (e *Env) AgentMailRate() float64 {
	value := e.lookup("AGENTMAIL_RATE")
	if value == "" {
		return 0
	}
	rate, err := strconv.ParseFloat(value, 64)
	if err != nil || !(rate >= 0.1 && rate <= 10_000) {
		e.errs = append(e.errs, fmt.Errorf("AGENTMAIL_RATE has to be a number of calls a second from 0.1 to 10000, not %q", value))
	}
	return rate
}

// Budget is how long a list may spend on provisioning.
func (e *Env) Budget() time.Duration { return e.Duration("PROVISION_BUDGET", DefaultBudget) }

// Lease is how long a claim holds.
func (e *Env) Lease() time.Duration { return e.Duration("LEASE", DefaultLease) }

// SealOpenFields says whether what is stored in the clear beside a user's secret is sealed with it.
// It must not be on while a version of this service runs that does not know of it.
func (e *Env) SealOpenFields() bool { return e.flag("SEAL_OPEN_FIELDS", e.lookup("SEAL_OPEN_FIELDS")) }

// Suspends says whether users may be suspended. It must not be on while a version of this service
// runs that does not know of it, and would delete their accounts.
func (e *Env) Suspends() bool { return e.flag("SUSPENSION", e.lookup("SUSPENSION")) }

// MinSuspendedKeysLive is the least for which the keys of a suspended user may live on.
const MinSuspendedKeysLive = time.Hour

// SuspendedKeysLive is how long after a user's suspension their keys are revoked; 0, if it is not
// set, for never. It must not be set while a version of this service runs that does not know of it.
func (e *Env) SuspendedKeysLive() time.Duration {
	d := e.Duration("SUSPENDED_KEYS_LIVE", 0)
	if d > 0 && d < MinSuspendedKeysLive {
		e.errs = append(e.errs, fmt.Errorf("SUSPENDED_KEYS_LIVE has to be at least %v, such as 168h, not %v", MinSuspendedKeysLive, d))
	}
	return d
}

// AgentMailAdopts says whether users may have pods that another service made, so that a deletion
// has to ask AgentMail for them.
func (e *Env) AgentMailAdopts() bool { return e.flag("AGENTMAIL_ADOPTS", e.lookup("AGENTMAIL_ADOPTS")) }

// flag is a variable that is true or false; false if it is empty.
func (e *Env) flag(name, value string) bool {
	if value != "" && value != "true" && value != "false" {
		e.errs = append(e.errs, fmt.Errorf("%s has to be true or false, not %q", name, value))
	}
	return value == "true"
}

// LogLevel is the least level that is logged; INFO if it is not set.
func (e *Env) LogLevel() slog.Level {
	var level slog.Level
	value := e.lookup("LOG_LEVEL")
	if value == "" {
		return slog.LevelInfo
	}
	err := level.UnmarshalText([]byte(value))
	if err != nil {
		e.errs = append(e.errs, fmt.Errorf("LOG_LEVEL has to be DEBUG, INFO, WARN or ERROR, not %q", value))
	}
	return level
}

// SystemCredentials are the titles of the system credentials on offer, by provider; none if the
// variable is empty.
func (e *Env) SystemCredentials() map[string]string {
	value := e.lookup("SYSTEM_CREDENTIALS")
	if value == "" {
		return nil
	}
	var titles map[string]string
	err := json.Unmarshal([]byte(value), &titles)
	if err != nil {
		e.errs = append(e.errs, fmt.Errorf("SYSTEM_CREDENTIALS has to be a JSON object of provider names and titles: %w", err))
	}
	for provider := range titles {
		if !credential.ValidProvider(provider) {
			e.errs = append(e.errs, fmt.Errorf("SYSTEM_CREDENTIALS names the provider %q, which is not of the form [a-z0-9_]{1,64}", provider))
		}
	}
	return titles
}
