package flat

import (
	"crypto/sha256"
	"encoding/base32"
	"net/url"
	"regexp"
	"strconv"
	"strings"

	"managed-credentials/shared/credential"
	"managed-credentials/shared/managed"
)

// A key's name is managed-credentials/USER/DEPLOYMENT/ATTEMPT, without DEPLOYMENT if there is none.
// No part has a slash in it, so that no user's names are another's.
const namePrefix = "managed-credentials/"

// maxContainer is how long the part may be that stands for the user, so that third parties take the
// name.
const maxContainer = 128

// Container is the part of a key's name that stands for the user: the user id itself, where it is
// of letters, digits and "-._~$&+:=@"; else with percent signs; and where that is too long, a hash
// of it after a "~", which no other one begins with.
func Container(user string) string {
	plain := strings.ReplaceAll(url.PathEscape(user), "~", "%7E")
	if len(plain) <= maxContainer {
		return plain
	}
	sum := sha256.Sum256([]byte(user))
	return "~" + strings.ToLower(base32.StdEncoding.WithPadding(base32.NoPadding).EncodeToString(sum[:]))
}

// userOf is the user for whom a container stands; "" if it does not tell.
func userOf(container string) string {
	user, err := url.PathUnescape(container)
	if err != nil || !credential.ValidUserID(user) || Container(user) != container {
		return ""
	}
	return user
}

// KeyName is the name of the key that an attempt makes for a user. It is exported for the tests of
// authors.
func KeyName(user, deployment string, attempt int64) string {
	name := namePrefix + Container(user) + "/"
	if deployment != "" {
		name += deployment + "/"
	}
	return name + strconv.FormatInt(attempt, 10)
}

var nameForm = regexp.MustCompile(`^` + namePrefix + `([^/]+)/(?:([a-z2-7]{8})/)?(0|[1-9][0-9]{0,18})$`)

// named is what the name of a key of ours says.
type named struct {
	container, deployment string
	attempt               int64
}

func parseName(name string) (named, bool) {
	parts := nameForm.FindStringSubmatch(name)
	if parts == nil {
		return named{}, false
	}
	attempt, err := strconv.ParseInt(parts[3], 10, 64)
	return named{container: parts[1], deployment: parts[2], attempt: attempt}, err == nil
}

// attemptOf is the number of the attempt that a key's name carries, if it is this user's and ours:
// with this deployment's id, or with none.
func attemptOf(name string, a *managed.Attempt) (attempt int64, ours bool) {
	n, ok := parseName(name)
	return n.attempt, ok && n.container == Container(a.User) && (n.deployment == "" || n.deployment == a.Deployment)
}
