// Package secretsmanager stands in for AWS Secrets Manager: reading a secret, adding versions and
// moving staging labels, over HTTP and in the shapes of the real service, so that the stock SDK
// client talks to it.
//
// Labels behave as on AWS: one version of a secret has AWSCURRENT, and the version that loses it
// gets AWSPREVIOUS. Values are strings; binary values, rotation, replication and policies do not
// exist here. Nothing is kept beyond the process.
package secretsmanager

import (
	"crypto/rand"
	"fmt"
	"maps"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/google/uuid"

	"managed-credentials/shared/local/awsjson"
)

// The staging labels that Secrets Manager itself moves.
const (
	current  = "AWSCURRENT"
	previous = "AWSPREVIOUS"
)

// Config says which secrets there are at the start.
type Config struct {
	// Region and Account make up the ARNs. Empty means us-east-1 and 000000000000.
	Region, Account string
	// Secrets are the current values by secret name.
	Secrets map[string]string
}

// Server answers the Secrets Manager API. It is safe for concurrent use.
type Server struct {
	api       awsjson.Service
	arnPrefix string

	mu      sync.Mutex
	secrets map[string]*secret // by name
}

type secret struct {
	name, arn string
	created   time.Time
	deleted   bool
	versions  map[string]version // by version id
	labels    map[string]string  // staging label to version id
}

type version struct {
	value   string
	created time.Time
}

// New makes a server with the secrets of cfg.
func New(cfg Config) *Server {
	if cfg.Region == "" {
		cfg.Region = "us-east-1"
	}
	if cfg.Account == "" {
		cfg.Account = "000000000000"
	}
	s := &Server{
		arnPrefix: fmt.Sprintf("arn:aws:secretsmanager:%s:%s:secret:", cfg.Region, cfg.Account),
		secrets:   map[string]*secret{},
	}
	for name, value := range cfg.Secrets {
		s.Put(name, value)
	}
	s.api = awsjson.Service{Target: "secretsmanager", Operations: map[string]awsjson.Operation{
		"CreateSecret":             locked(s, s.createSecret),
		"DescribeSecret":           locked(s, s.describeSecret),
		"GetSecretValue":           locked(s, s.getSecretValue),
		"PutSecretValue":           locked(s, s.putSecretValue),
		"UpdateSecretVersionStage": locked(s, s.updateSecretVersionStage),
	}}
	return s
}

func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) { s.api.ServeHTTP(w, r) }

// locked makes an operation of a function that needs the server's lock.
func locked[In any](s *Server, f func(In) (any, error)) awsjson.Operation {
	return awsjson.Op(func(in In) (any, error) {
		s.mu.Lock()
		defer s.mu.Unlock()
		return f(in)
	})
}

// Put gives the secret a new current version, and makes the secret first if there is none of that
// name. It is how a test or the local set-up rotates a key. It returns the id of the new version.
func (s *Server) Put(name, value string) (versionID string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	sec, ok := s.secrets[name]
	if !ok {
		sec = s.add(name)
	}
	versionID = uuid.NewString()
	sec.versions[versionID] = version{value: value, created: time.Now()}
	sec.attach(current, versionID)
	return versionID
}

// MarkDeleted puts the secret in the state that it has on AWS after DeleteSecret, during the
// recovery window: its value is out of reach and its name is taken. It does nothing if there is no
// such secret.
func (s *Server) MarkDeleted(name string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	sec, ok := s.secrets[name]
	if ok {
		sec.deleted = true
	}
}

type createSecretInput struct {
	Name               string
	SecretString       *string
	ClientRequestToken string
}

type createSecretOutput struct {
	ARN, Name string
	VersionID string `json:"VersionId,omitempty"`
}

func (s *Server) createSecret(in createSecretInput) (any, error) {
	sec, exists := s.secrets[in.Name]
	switch {
	case exists && sec.deleted:
		return nil, awsjson.Errorf("InvalidRequestException",
			"You can't create this secret because a secret with this name is already scheduled for deletion.")
	case exists && !sec.isRepeat(in.ClientRequestToken, in.SecretString):
		return nil, awsjson.Errorf("ResourceExistsException", "The operation failed because the secret %s already exists.", in.Name)
	case exists:
		return createSecretOutput{sec.arn, sec.name, in.ClientRequestToken}, nil
	case in.SecretString == nil: // AWS allows a secret without any version.
		sec = s.add(in.Name)
		return createSecretOutput{ARN: sec.arn, Name: sec.name}, nil
	}
	err := checkToken(in.ClientRequestToken)
	if err != nil {
		return nil, err
	}
	sec = s.add(in.Name)
	err = sec.addVersion(in.ClientRequestToken, in.SecretString, []string{current})
	if err != nil {
		return nil, err
	}
	return createSecretOutput{sec.arn, sec.name, in.ClientRequestToken}, nil
}

type putSecretValueInput struct {
	SecretID           string `json:"SecretId"`
	SecretString       *string
	ClientRequestToken string
	VersionStages      []string
}

type putSecretValueOutput struct {
	ARN, Name     string
	VersionID     string `json:"VersionId"`
	VersionStages []string
}

func (s *Server) putSecretValue(in putSecretValueInput) (any, error) {
	sec, err := s.live(in.SecretID)
	if err != nil {
		return nil, err
	}
	err = checkToken(in.ClientRequestToken)
	if err != nil {
		return nil, err
	}
	stages := in.VersionStages
	if len(stages) == 0 {
		stages = []string{current}
	}
	err = sec.addVersion(in.ClientRequestToken, in.SecretString, stages)
	if err != nil {
		return nil, err
	}
	return putSecretValueOutput{sec.arn, sec.name, in.ClientRequestToken, sec.stages(in.ClientRequestToken)}, nil
}

type getSecretValueInput struct {
	SecretID     string `json:"SecretId"`
	VersionID    string `json:"VersionId"`
	VersionStage string
}

type getSecretValueOutput struct {
	ARN, Name     string
	VersionID     string `json:"VersionId"`
	SecretString  string
	VersionStages []string
	CreatedDate   float64
}

func (s *Server) getSecretValue(in getSecretValueInput) (any, error) {
	sec, err := s.live(in.SecretID)
	if err != nil {
		return nil, err
	}
	id := in.VersionID
	if id == "" {
		stage := in.VersionStage
		if stage == "" {
			stage = current
		}
		attached, ok := sec.labels[stage]
		if !ok {
			return nil, awsjson.Errorf("ResourceNotFoundException",
				"Secrets Manager can't find the specified secret value for staging label: %s", stage)
		}
		id = attached
	}
	v, ok := sec.versions[id]
	if !ok {
		return nil, noVersion(id)
	}
	if in.VersionStage != "" && sec.labels[in.VersionStage] != id {
		return nil, awsjson.Errorf("InvalidRequestException",
			"You provided a VersionStage that is not associated to the provided VersionId.")
	}
	return getSecretValueOutput{sec.arn, sec.name, id, v.value, sec.stages(id), timestamp(v.created)}, nil
}

type describeSecretInput struct {
	SecretID string `json:"SecretId"`
}

type describeSecretOutput struct {
	ARN, Name          string
	CreatedDate        float64
	VersionIDsToStages map[string][]string `json:"VersionIdsToStages"`
}

func (s *Server) describeSecret(in describeSecretInput) (any, error) {
	sec, err := s.find(in.SecretID)
	if err != nil {
		return nil, err
	}
	out := describeSecretOutput{sec.arn, sec.name, timestamp(sec.created), map[string][]string{}}
	for _, id := range sec.labels {
		out.VersionIDsToStages[id] = sec.stages(id)
	}
	return out, nil
}

type updateSecretVersionStageInput struct {
	SecretID            string `json:"SecretId"`
	VersionStage        string
	MoveToVersionID     string `json:"MoveToVersionId"`
	RemoveFromVersionID string `json:"RemoveFromVersionId"`
}

type updateSecretVersionStageOutput struct{ ARN, Name string }

func (s *Server) updateSecretVersionStage(in updateSecretVersionStageInput) (any, error) {
	sec, err := s.live(in.SecretID)
	if err != nil {
		return nil, err
	}
	to, from, stage := in.MoveToVersionID, in.RemoveFromVersionID, in.VersionStage
	_, known := sec.versions[to]
	holder, attached := sec.labels[stage]
	switch {
	case to != "" && !known:
		return nil, noVersion(to)
	case from != "" && from != holder:
		return nil, awsjson.Errorf("InvalidParameterException",
			"When you move staging label %s, if you specify RemoveFromVersionId, it must be set to the version that currently has the staging label %s.",
			stage, stage)
	case attached && from == "" && to != holder:
		return nil, awsjson.Errorf("InvalidParameterException",
			"The parameter RemoveFromVersionId can't be empty. Staging label %s is currently attached to version %s, so you must explicitly reference that version in RemoveFromVersionId.",
			stage, holder)
	case to == "" && stage == current:
		return nil, awsjson.Errorf("InvalidParameterException",
			"You can only move staging label AWSCURRENT to a different secret version. It can’t be completely removed.")
	case to == "":
		delete(sec.labels, stage)
	default:
		sec.attach(stage, to)
	}
	return updateSecretVersionStageOutput{sec.arn, sec.name}, nil
}

// add makes a secret without a version. AWS ends its ARN with a hyphen and six random characters.
func (s *Server) add(name string) *secret {
	sec := &secret{
		name:     name,
		arn:      s.arnPrefix + name + "-" + rand.Text()[:6],
		created:  time.Now(),
		versions: map[string]version{},
		labels:   map[string]string{},
	}
	s.secrets[name] = sec
	return sec
}

// randomSuffix is what AWS takes for the end of a complete ARN, and therefore never completes.
var randomSuffix = regexp.MustCompile(`-[0-9A-Za-z]{6}$`)

// find returns the secret that a request means by its name, its ARN, or its ARN without the random
// suffix. See
// https://docs.aws.amazon.com/secretsmanager/latest/userguide/troubleshoot.html#ARN_secretnamehyphen
// for names that look complete.
func (s *Server) find(id string) (*secret, error) {
	sec, ok := s.secrets[id]
	if ok {
		return sec, nil
	}
	for _, sec := range s.secrets {
		if sec.arn == id {
			return sec, nil
		}
	}
	name, isARN := strings.CutPrefix(id, s.arnPrefix)
	sec, ok = s.secrets[name]
	if isARN && ok && !randomSuffix.MatchString(name) {
		return sec, nil
	}
	return nil, awsjson.Errorf("ResourceNotFoundException", "Secrets Manager can't find the specified secret.")
}

// live is find for operations that a secret marked for deletion refuses.
func (s *Server) live(id string) (*secret, error) {
	sec, err := s.find(id)
	if err != nil {
		return nil, err
	}
	if sec.deleted {
		return nil, awsjson.Errorf("InvalidRequestException",
			"You can't perform this operation on the secret because it was marked for deletion.")
	}
	return sec, nil
}

// addVersion adds a version whose id is the request's token. The same token with the same value is
// a repeat and changes nothing.
func (sec *secret) addVersion(token string, value *string, stages []string) error {
	if value == nil {
		return awsjson.Errorf("InvalidParameterException", "You must provide either SecretString or SecretBinary.")
	}
	if sec.isRepeat(token, value) {
		return nil
	}
	_, taken := sec.versions[token]
	if taken {
		return awsjson.Errorf("ResourceExistsException",
			"You can't use ClientRequestToken %s because that value is already in use for a version of secret %s.", token, sec.arn)
	}
	if len(sec.versions) == 0 {
		sec.attach(current, token) // A first version is current whatever labels it was given.
	}
	sec.versions[token] = version{value: *value, created: time.Now()}
	for _, stage := range stages {
		sec.attach(stage, token)
	}
	return nil
}

func (sec *secret) isRepeat(token string, value *string) bool {
	v, ok := sec.versions[token]
	return ok && value != nil && v.value == *value
}

// attach moves a staging label to a version.
func (sec *secret) attach(label, versionID string) {
	old, attached := sec.labels[label]
	if label == current && attached && old != versionID {
		sec.labels[previous] = old
	}
	sec.labels[label] = versionID
}

// stages lists the labels of a version.
func (sec *secret) stages(versionID string) []string {
	stages := []string{}
	for _, label := range slices.Sorted(maps.Keys(sec.labels)) {
		if sec.labels[label] == versionID {
			stages = append(stages, label)
		}
	}
	return stages
}

// checkToken refuses what AWS would; the SDK sends a UUID if the caller sets none.
func checkToken(token string) error {
	if len(token) < 32 || len(token) > 64 {
		return awsjson.Errorf("InvalidParameterException", "ClientRequestToken must be 32-64 characters long.")
	}
	return nil
}

func noVersion(id string) error {
	return awsjson.Errorf("ResourceNotFoundException", "Secrets Manager can't find the specified secret value for VersionId: %s", id)
}

// timestamp is a time as the protocol writes it: seconds since 1970.
func timestamp(t time.Time) float64 { return float64(t.UnixMilli()) / 1000 }
