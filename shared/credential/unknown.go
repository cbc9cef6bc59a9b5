package credential

import (
	"encoding/json"
	"maps"
	"regexp"
	"slices"
	"strings"
)

// ignored are the members of a body that the service decides itself: what AutoGPT's clients send of
// a credential beside its fields, and what an answer of ours has. docs/openapi.yaml lists them.
var ignored = []string{"id", "provider", "metadata", "is_system", "created_at", "hint", "stored", "last_used_on"}

// common are the members of a body that belong to no type.
var common = []string{"type", "title", "autogpt_managed", "is_managed"}

// checkUnknown returns a *FieldError that names the members of a body which a credential of type t
// does not have, and what was probably meant: a typing error in an optional field would otherwise
// be a credential that lacks it. An empty t is that of a body that does not say it.
func checkUnknown(t Type, all map[string]json.RawMessage) error {
	var first *FieldError
	for _, name := range slices.Sorted(maps.Keys(all)) {
		if slices.Contains(ignored, name) || slices.Contains(common, name) || isFieldOf(t, name) {
			continue
		}
		problem := unknownProblem(t, name)
		switch {
		case !nameLike.MatchString(name): // it may be anything, a secret too
			return &FieldError{"body", "has a field that is none of a credential"}
		case first == nil:
			first = &FieldError{name, problem}
		default:
			first.Problem += "; " + name + ": " + problem
		}
	}
	if first == nil {
		return nil
	}
	return first
}

// nameLike is a name that is no secret.
var nameLike = regexp.MustCompile(`^[A-Za-z]{1,20}([_-][A-Za-z]{1,20}){0,4}$`)

func isField(name string) bool {
	return slices.ContainsFunc(types, func(t Type) bool { return isFieldOf(t, name) })
}

func isFieldOf(t Type, name string) bool {
	if t == "" {
		return isField(name)
	}
	return slices.ContainsFunc(fieldsOf[t], func(f field) bool { return f.name == name })
}

func unknownProblem(t Type, name string) string {
	problem := "is not a field of a credential"
	if t != "" {
		problem = "is not a field of type " + string(t)
	}
	plain := plainName(name)
	for _, meant := range meanings[plain] {
		if isFieldOf(t, meant) || slices.Contains(common, meant) {
			return problem + ": " + meant + " is probably meant"
		}
	}
	return problem
}

// plainName is a name without what people write differently.
func plainName(name string) string {
	return strings.NewReplacer("_", "", "-", "").Replace(strings.ToLower(name))
}

// meanings are the fields that a name probably means, by its plain name; the first that the type
// has counts.
var meanings = func() map[string][]string {
	expiry := []string{"expires_at", "access_token_expires_at"}
	all := map[string][]string{
		"expireat": expiry, "expires": expiry, "expiresin": expiry, "expiry": expiry, "expiration": expiry, "expirationdate": expiry,
		"expiresat": expiry, "accesstokenexpiresat": expiry, "exp": expiry,
		"refreshexpiresat": {"refresh_token_expires_at"}, "scope": {"scopes"},
		"key": {"api_key"}, "secret": {"api_key", "password"}, "token": {"access_token", "api_key"}, "apitoken": {"api_key"},
		"user": {"username"}, "login": {"username"}, "email": {"username"}, "pass": {"password"},
		"header": {"headers"}, "hostname": {"host"}, "url": {"host"}, "domain": {"host"},
		"name": {"title"}, "label": {"title"}, "kind": {"type"},
	}
	for _, t := range types {
		for _, f := range fieldsOf[t] {
			plain := plainName(f.name)
			if !slices.Contains(all[plain], f.name) {
				all[plain] = append(all[plain], f.name)
			}
		}
	}
	for _, name := range common {
		all[plainName(name)] = append(all[plainName(name)], name)
	}
	return all
}()
