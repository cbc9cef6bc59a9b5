package standin

import (
	"crypto/rand"
	"net/http"
	"regexp"
	"strings"
	"sync"
	"time"

	"github.com/google/uuid"
)

// Secrets stands in for AWS Secrets Manager: GetSecretValue of what [Secrets.Put] last gave a
// secret, its version AWSCURRENT. There are no earlier versions, no binary values, and nothing that
// writes. It is an http.Handler, safe for concurrent use.
type Secrets struct {
	api service

	mu      sync.Mutex
	secrets map[string]*secret // by name
}

type secret struct {
	name, arn string
	deleted   bool
	value     string
	version   string
	created   time.Time // the version
}

// NewSecrets makes a server with the secrets' current values, by name.
func NewSecrets(values map[string]string) *Secrets {
	s := &Secrets{secrets: map[string]*secret{}}
	for name, value := range values {
		s.Put(name, value)
	}
	s.api = service{target: "secretsmanager", operations: map[string]operation{"GetSecretValue": op(s.getSecretValue)}}
	return s
}

func (s *Secrets) ServeHTTP(w http.ResponseWriter, r *http.Request) { s.api.ServeHTTP(w, r) }

// secretARN is what the ARN of each secret begins with.
const secretARN = "arn:aws:secretsmanager:" + Region + ":" + Account + ":secret:"

// Put gives the secret a new value, and makes the secret first if there is none of that name. It is
// how a test rotates a key.
func (s *Secrets) Put(name, value string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	_, ok := s.secrets[name]
	if !ok { // AWS ends an ARN with a hyphen and six random characters.
		s.secrets[name] = &secret{name: name, arn: secretARN + name + "-" + rand.Text()[:6]}
	}
	sec := s.secrets[name]
	sec.value, sec.version, sec.created = value, uuid.NewString(), time.Now()
}

// MarkDeleted puts the secret in the state that it has on AWS after DeleteSecret, during the
// recovery window: its value is out of reach. It does nothing if there is no such secret.
func (s *Secrets) MarkDeleted(name string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	sec, ok := s.secrets[name]
	if ok {
		sec.deleted = true
	}
}

type getSecretValueInput struct {
	SecretID     string `json:"SecretId"`
	VersionStage string
}

type getSecretValueOutput struct {
	ARN, Name     string
	VersionID     string `json:"VersionId"`
	SecretString  string
	VersionStages []string
	CreatedDate   float64
}

func (s *Secrets) getSecretValue(in getSecretValueInput) (any, error) {
	const current = "AWSCURRENT"
	s.mu.Lock()
	defer s.mu.Unlock()
	sec := s.find(in.SecretID)
	switch {
	case sec == nil:
		return nil, refuse("ResourceNotFoundException", "Secrets Manager can't find the specified secret.")
	case sec.deleted:
		return nil, refuse("InvalidRequestException", "You can't perform this operation on the secret because it was marked for deletion.")
	case in.VersionStage != "" && in.VersionStage != current:
		return nil, refuse("ResourceNotFoundException",
			"Secrets Manager can't find the specified secret value for staging label: %s", in.VersionStage)
	}
	return getSecretValueOutput{sec.arn, sec.name, sec.version, sec.value, []string{current}, seconds(sec.created)}, nil
}

// randomSuffix is what AWS takes for the end of a complete ARN, and therefore never completes.
var randomSuffix = regexp.MustCompile(`-[0-9A-Za-z]{6}$`)

// find returns the secret that a request means by its name, its ARN, or its ARN without the random
// suffix; nil if there is none. See
// https://docs.aws.amazon.com/secretsmanager/latest/userguide/troubleshoot.html#ARN_secretnamehyphen
// for names that look complete.
func (s *Secrets) find(id string) *secret {
	sec, ok := s.secrets[id]
	if ok {
		return sec
	}
	for _, sec := range s.secrets {
		if sec.arn == id {
			return sec
		}
	}
	name, isARN := strings.CutPrefix(id, secretARN)
	if !isARN || randomSuffix.MatchString(name) {
		return nil
	}
	return s.secrets[name]
}
