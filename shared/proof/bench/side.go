package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"sync/atomic"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	awsdynamodb "github.com/aws/aws-sdk-go-v2/service/dynamodb"
	awskms "github.com/aws/aws-sdk-go-v2/service/kms"
	awssecrets "github.com/aws/aws-sdk-go-v2/service/secretsmanager"

	"managed-credentials/shared/clock"
	"managed-credentials/shared/config"
	"managed-credentials/shared/local/dynamodb"
	"managed-credentials/shared/local/standin"
	"managed-credentials/shared/local/template"
	"managed-credentials/shared/managed"
	"managed-credentials/shared/proof/bench/byhand"
	"managed-credentials/shared/provider"
	"managed-credentials/shared/provider/agentmail/fake"
	"managed-credentials/shared/seal"
	"managed-credentials/shared/store"
	"managed-credentials/shared/telemetry"
)

// far is how long a call to AgentMail takes, which is far away, where a part says so.
const far = 120 * time.Millisecond

// side is one side of what is measured in this process, with many callers at once: it has a table
// of its own, and counts the calls.
type side struct {
	*bench
	table string
	db    *awsdynamodb.Client
	http  *http.Client // AWS's clients', with enough connections for all callers
	mail  string       // where AgentMail is

	dynamoDBCalls, mailCalls atomic.Int64
	// ahead is by how much the side's clock is ahead.
	ahead atomic.Int64
}

// side makes a side that is so far away from AgentMail. It lasts until close.
func (b *bench) side(ctx context.Context, away time.Duration) (s *side, closes func(), err error) {
	b.tables++
	s = &side{bench: b, table: fmt.Sprintf("%s-%d", b.Table, b.tables)}
	deployed, err := template.Load(".")
	if err != nil {
		return nil, nil, err
	}
	err = dynamodb.CreateTable(ctx, b.DynamoDB, s.table, deployed.Table)
	if err != nil {
		return nil, nil, err
	}
	target, err := url.Parse(b.AgentMailURL)
	if err != nil {
		return nil, nil, err
	}
	connections := &http.Transport{MaxIdleConnsPerHost: 512}
	s.http = &http.Client{Transport: counting{connections, func(r *http.Request) {
		if "http://"+r.URL.Host == b.DynamoDBURL {
			s.dynamoDBCalls.Add(1)
		}
	}}}
	proxy := httputil.NewSingleHostReverseProxy(target)
	proxy.Transport = connections
	mail := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.mailCalls.Add(1)
		time.Sleep(away)
		proxy.ServeHTTP(w, r)
	}))
	s.mail = mail.URL
	s.db = awsdynamodb.NewFromConfig(s.aws(), func(o *awsdynamodb.Options) {
		o.BaseEndpoint, o.DisableValidateResponseChecksum = &b.DynamoDBURL, true
	})
	return s, func() {
		mail.Close()
		connections.CloseIdleConnections()
	}, nil
}

// counting tells of each request.
type counting struct {
	http.RoundTripper
	count func(*http.Request)
}

// RoundTrip implements http.RoundTripper.
func (c counting) RoundTrip(r *http.Request) (*http.Response, error) {
	c.count(r)
	return c.RoundTripper.RoundTrip(r)
}

func (s *side) aws() aws.Config {
	return aws.Config{
		Region:      standin.Region,
		Credentials: credentials.NewStaticCredentialsProvider("local", "local", ""),
		HTTPClient:  s.http,
	}
}

// now is the side's clock.
func (s *side) now() time.Time { return clock.Now().Add(time.Duration(s.ahead.Load())) }

// engine is what a process of the service would have.
func (s *side) engine() (*managed.Engine, error) {
	values := map[string]string{}
	for _, f := range s.Functions {
		if f.Name == list {
			values = maps.Clone(f.Env)
		}
	}
	values["AGENTMAIL_BASE_URL"] = s.mail
	env := config.From(func(name string) string { return values[name] })
	c := managed.Config{
		Store:   store.New(s.db, s.table, s.now),
		Seal:    seal.New(s.kms(), values["KMS_KEY_ID"]),
		Lease:   env.Lease(),
		Budget:  env.Budget(),
		Now:     s.now,
		Log:     slog.New(slog.DiscardHandler),
		Metrics: telemetry.NewMetrics(io.Discard),
	}
	provider.Configure(&c, env)
	c.OrgKeys = provider.OrgKeys(env, awssecrets.NewFromConfig(s.aws(), func(o *awssecrets.Options) {
		o.BaseEndpoint = &s.SecretsManagerURL
	}), c.Providers)
	err := env.Err()
	if err != nil {
		return nil, err
	}
	return managed.New(c)
}

func (s *side) kms() *awskms.Client {
	return awskms.NewFromConfig(s.aws(), func(o *awskms.Options) { o.BaseEndpoint = &s.KMSURL })
}

// maker does by hand what the engine does at AgentMail.
func (s *side) maker() byhand.Maker {
	keyID := ""
	for _, f := range s.Functions {
		if f.Name == list {
			keyID = f.Env["KMS_KEY_ID"]
		}
	}
	return byhand.Maker{KMS: s.kms(), KeyID: keyID, URL: s.mail, OrgKey: fake.OrgKey, HTTP: http.DefaultClient}
}
