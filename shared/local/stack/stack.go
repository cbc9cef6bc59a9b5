// Package stack is the whole service on one machine: the built functions behind a gateway, AWS's
// own DynamoDB Local, and servers that stand in for KMS, Secrets Manager, Cognito, SQS and
// AgentMail. `make run` is this for people; end-to-end tests start it in their own process and
// reach into every part.
//
// What is deployed stands in template.yaml: the table, the routes, and which function gets which
// variable. A function that needs a variable which the template does not give it fails here as it
// would on AWS.
package stack

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"slices"
	"sync"
	"time"

	awsdynamodb "github.com/aws/aws-sdk-go-v2/service/dynamodb"

	"managed-credentials/shared/local/dashboard"
	"managed-credentials/shared/local/dynamodb"
	"managed-credentials/shared/local/fault"
	"managed-credentials/shared/local/gateway"
	"managed-credentials/shared/local/issuer"
	"managed-credentials/shared/local/lambda"
	"managed-credentials/shared/local/login"
	"managed-credentials/shared/local/standin"
	"managed-credentials/shared/local/template"
	"managed-credentials/shared/local/thirdparty"
	"managed-credentials/shared/managed"
	"managed-credentials/shared/provider/agentmail"
	"managed-credentials/shared/provider/agentmail/fake"
	"managed-credentials/shared/provider/fakes"
	"managed-credentials/shared/telemetry"
)

const (
	region     = standin.Region
	userPoolID = region + "_local"
	clientID   = "local"
	// DeadLetters is the URL of the queue of the account deletions that failed for good. It leads
	// nowhere.
	DeadLetters = "https://sqs." + region + ".amazonaws.com/" + standin.Account + "/account-deletions-failed"
	// grace is how long Close waits for what is under way.
	grace = 10 * time.Second
)

// Config says what a stack is made of. Its zero value is good for tests: everything in this process
// or below it, on free ports.
type Config struct {
	// Dir is a directory of the repository. Empty means the working directory.
	Dir string
	// Dist holds the built functions, <function>/bootstrap. Empty means the repository's dist/,
	// where `make build` puts them.
	Dist string
	// Listener is where the API and the page are served, AgentMailListener the fake AgentMail. Nil
	// means a free port of 127.0.0.1. Start takes them over; they are closed even if it fails.
	Listener, AgentMailListener net.Listener
	// Env are values of the functions' variables. They win over those that fit this stack,
	// AGENTMAIL_BASE_URL without AgentMailKey excepted. A test that shares a DynamoDB Local leaves
	// TABLE_NAME out: each stack then has a table of its own.
	Env map[string]string
	// Prefix stands before each path of the API, as a stage's name or a mapped path does:
	// gateway.Config.
	Prefix string
	// Origins are those whose pages may call the API from a browser: gateway.Config. On AWS they
	// are the parameter AllowedOrigins.
	Origins []string
	// AgentMailKey is an org key of the real AgentMail, which is then used in place of the fake.
	AgentMailKey string
	// AllProviders starts the fakes of all other providers, too, and has users get keys there, in
	// place of what Env has as MANAGED_PROVIDERS.
	AllProviders bool
	// AllAuto has users get keys at all providers without asking, whatever the fakes' modes, and
	// lets them have these replaced.
	AllAuto bool
	// DynamoDB is a running DynamoDB Local to use. Nil means that the stack starts one.
	DynamoDB *dynamodb.Server
	// Faults puts a proxy that injects faults in front of each service that the functions call: see
	// Stack.Faults.
	Faults bool
	// LimitMemory ends an instance that holds more memory than the template gives its function.
	LimitMemory bool
	// ManagedLogin has the page sign its users in through a stand-in for Cognito's managed login,
	// in place of asking for a name.
	ManagedLogin bool
	// ReconcileEvery is how often the schedule invokes reconcile. 0 means never, so that a test
	// does it itself.
	ReconcileEvery time.Duration
	// AuditEvery is how often it has operate go on with the audits that are due. 0 means never.
	AuditEvery time.Duration
	// Around is put around the API and the page. Tests hold the service to its contract by it. Nil
	// means nothing.
	Around func(http.Handler) http.Handler
	// Timeout is how long each function's invocations may take. 0 means as long as the template
	// lets them.
	Timeout time.Duration
	// Now is the functions' wall clock, by which they are told their deadlines. Nil means time.Now.
	Now func() time.Time
	// Log gets the progress of the start and, line by line, what the functions write. Nil means
	// that it is thrown away.
	Log io.Writer
}

// Stack is a service that runs.
type Stack struct {
	// URL is the origin of the API and the page.
	URL string
	// AgentMailURL, DynamoDBURL, KMSURL, SecretsManagerURL, CognitoURL, SQSURL and LambdaURL are
	// the origins of what the functions call, without the proxies of Faults.
	AgentMailURL, DynamoDBURL, KMSURL, SecretsManagerURL, CognitoURL, SQSURL, LambdaURL string
	// Fakes are those of the other providers, by their names; nil unless Config.AllProviders is
	// set.
	Fakes map[string]Fake
	// LoginURL is the origin of the login pages, empty unless Config.ManagedLogin is set.
	LoginURL string

	// IssuerURL is the issuer whose tokens the function authorize verifies.
	IssuerURL string

	// Table is the table's name, and DynamoDB a client that reaches it without proxy.
	Table    string
	DynamoDB *awsdynamodb.Client
	// UserPoolID is the one user pool.
	UserPoolID string
	// SystemKeys are the platform's keys that system credentials hand out, by provider.
	SystemKeys map[string]string

	// Functions are what Host runs, so that one can run them beside others.
	Functions []lambda.Function

	Host   *lambda.Host
	Issuer *issuer.Issuer
	// ES256 is a second issuer, which is not Cognito. Nil if JWT_ISSUER names another.
	ES256   *issuer.ES256
	KMS     *standin.KMS
	Secrets *standin.Secrets
	Cognito *standin.Pool
	// Queues has the one queue DeadLetters: the account deletions that failed for good.
	Queues *standin.Queues
	// AgentMail is the fake. Nil if the real one is used.
	AgentMail *fake.Server
	// Faults is nil unless Config.Faults is set.
	Faults *Faults

	log       io.Writer
	metrics   *dashboard.Metrics
	env       *environment
	quiet     sync.Map   // the subs of users whose deletion is told of by whoever removes them
	failed    chan error // has room for one
	closers   []func()
	closeOnce sync.Once

	mu      sync.Mutex // orders background and drain
	closing chan struct{}
	work    sync.WaitGroup
}

// Fake is a fake that runs.
type Fake struct {
	thirdparty.Fake
	// URL is its origin.
	URL string
}

// Faults are the proxies in front of the services. Each passes everything until it is given a hook.
type Faults struct {
	DynamoDB, KMS, SecretsManager, Cognito, SQS, Lambda, AgentMail *fault.Proxy
	// Fakes are those in front of Stack.Fakes.
	Fakes map[string]*fault.Proxy
}

// Start starts a stack and returns once it can be used. ctx is for starting alone. The functions
// have to be built.
func Start(ctx context.Context, cfg Config) (*Stack, error) {
	if cfg.Log == nil {
		cfg.Log = io.Discard
	}
	s := &Stack{log: &output{to: cfg.Log}, failed: make(chan error, 1), closing: make(chan struct{})}
	for _, l := range []net.Listener{cfg.Listener, cfg.AgentMailListener} {
		if l != nil {
			s.onClose(func() { _ = l.Close() })
		}
	}
	err := s.start(ctx, cfg)
	if err != nil {
		s.Close()
		return nil, fmt.Errorf("starting the service: %w", err)
	}
	return s, nil
}

func (s *Stack) start(ctx context.Context, cfg Config) error {
	deployed, err := template.Load(cfg.Dir)
	if err != nil {
		return err
	}
	binaries, err := findBinaries(cfg, deployed.Functions)
	if err != nil {
		return err
	}
	env := newEnvironment(cfg.Env)
	s.env = env
	err = s.startDynamoDB(ctx, cfg, deployed.Table, env)
	if err != nil {
		return err
	}
	err = s.startAgentMail(cfg, env)
	if err != nil {
		return err
	}
	err = s.startFakes(cfg)
	if err != nil {
		return err
	}
	err = s.startAWS(cfg, env)
	if err != nil {
		return err
	}
	if cfg.Listener == nil {
		cfg.Listener, err = net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return fmt.Errorf("listening: %w", err)
		}
		s.onClose(func() { _ = cfg.Listener.Close() })
	}
	err = s.startSignIn(cfg, env)
	if err != nil {
		return err
	}
	s.IssuerURL = env.values["JWT_ISSUER"]
	err = s.connect(cfg, env)
	if err != nil {
		return err
	}
	functions, err := env.functions(deployed.Functions, binaries)
	if err != nil {
		return err
	}
	for i := range functions {
		functions[i].Timeout = cmp.Or(cfg.Timeout, functions[i].Timeout)
	}
	s.Functions = functions
	s.metrics = dashboard.NewMetrics(time.Now)
	s.Host = lambda.New(lambda.Config{Functions: functions, Now: cfg.Now, LimitMemory: cfg.LimitMemory, Log: io.MultiWriter(s.log, s.metrics)})
	s.onClose(s.Host.Close)
	s.onClose(s.drain)
	s.onSchedule(cfg.ReconcileEvery, "reconcile", func() []byte { return gateway.Scheduled(time.Now()) })
	s.onSchedule(cfg.AuditEvery, "operate", func() []byte { return []byte(`{"command":"audit_due"}`) })
	s.URL, err = s.startGateway(cfg, deployed, s.Host)
	return err
}

func (s *Stack) startDynamoDB(ctx context.Context, cfg Config, table *awsdynamodb.CreateTableInput, env *environment) error {
	server := cfg.DynamoDB
	if server == nil {
		started, err := dynamodb.Start(ctx, dynamodb.Config{Log: s.log})
		if err != nil {
			return err
		}
		server = started
		s.onClose(server.Stop)
		go s.watch(server)
	}
	s.DynamoDBURL = server.URL()
	s.DynamoDB = server.Client(region)
	s.Table = env.values["TABLE_NAME"]
	return dynamodb.CreateTable(ctx, s.DynamoDB, s.Table, table)
}

// watch notices that DynamoDB Local has ended by itself.
func (s *Stack) watch(server *dynamodb.Server) {
	select {
	case <-s.closing:
	case <-server.Done():
		s.fail(errors.New("DynamoDB Local has ended"))
	}
}

// startAWS starts what stands in for the other services of AWS.
func (s *Stack) startAWS(cfg Config, env *environment) error {
	s.UserPoolID = cmp.Or(env.values["USER_POOL_ID"], userPoolID)
	s.Cognito = standin.NewPool(standin.PoolConfig{UserPoolID: s.UserPoolID, OnDelete: s.userDeleted, OnSwitch: s.userSwitched})
	key, err := env.key()
	if err != nil {
		return err
	}
	s.KMS = standin.NewKMS(key)
	s.SystemKeys, err = env.systemKeys()
	if err != nil {
		return err
	}
	orgKeys := map[string]string{agentmail.Name: cmp.Or(cfg.AgentMailKey, fake.OrgKey)}
	for name, f := range s.Fakes {
		orgKeys[name] = f.OrgKey
	}
	secrets, err := env.secrets(s.SystemKeys, orgKeys)
	if err != nil {
		return err
	}
	s.Secrets = standin.NewSecrets(secrets)

	s.CognitoURL, err = s.serve(nil, s.Cognito)
	if err != nil {
		return err
	}
	s.KMSURL, err = s.serve(nil, s.KMS)
	if err != nil {
		return err
	}
	s.SecretsManagerURL, err = s.serve(nil, s.Secrets)
	if err != nil {
		return err
	}
	s.Queues = standin.NewQueues(standin.QueuesConfig{Queues: []string{DeadLetters}})
	s.SQSURL, err = s.serve(nil, s.Queues)
	if err != nil {
		return err
	}
	// The host itself is made later, when it is known where the functions find all this.
	s.LambdaURL, err = s.serve(nil, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { s.Host.API().ServeHTTP(w, r) }))
	return err
}

func (s *Stack) startAgentMail(cfg Config, env *environment) error {
	if cfg.AgentMailKey != "" {
		s.AgentMailURL = env.values["AGENTMAIL_BASE_URL"]
		return nil
	}
	s.AgentMail = fake.New(fake.Config{})
	var err error
	s.AgentMailURL, err = s.serve(cfg.AgentMailListener, s.AgentMail)
	s.onClose(s.AgentMail.Close)
	return err
}

// startFakes starts the fakes of the other providers, if there are to be any.
func (s *Stack) startFakes(cfg Config) error {
	if !cfg.AllProviders {
		return nil
	}
	s.Fakes = map[string]Fake{}
	for name, make := range fakes.New {
		f := make(nil)
		if cfg.AllAuto {
			f.Mode = ""
		}
		url, err := s.serve(nil, f.Handler)
		if err != nil {
			return err
		}
		s.Fakes[name] = Fake{Fake: f, URL: url}
	}
	return nil
}

// useFakes has users get keys at the fakes, by the origins at which the functions find these.
func (s *Stack) useFakes(cfg Config, env *environment, urls map[string]string) error {
	if s.Fakes == nil {
		return nil
	}
	providers := map[string]map[string]any{agentmail.Name: {"mode": managed.Auto}}
	for name, f := range s.Fakes {
		settings := f.Settings(urls[name])
		settings["mode"] = cmp.Or(f.Mode, string(managed.Auto))
		providers[name] = settings
	}
	if cfg.AllAuto {
		for _, settings := range providers {
			settings["replace"] = "1s"
		}
	}
	text, err := json.Marshal(providers)
	env.values["MANAGED_PROVIDERS"] = string(text)
	return err
}

// startSignIn starts what gives out tokens, and tells the page where that is.
func (s *Stack) startSignIn(cfg Config, env *environment) error {
	var err error
	s.Issuer, err = issuer.New(issuer.Config{UserPoolID: s.UserPoolID, ClientID: clientID})
	if err != nil {
		return err
	}
	err = s.startES256(env)
	if err != nil || !cfg.ManagedLogin {
		return err
	}
	s.LoginURL, err = s.serve(nil, login.New(login.Config{
		ClientID:     clientID,
		CallbackURL:  "http://" + cfg.Listener.Addr().String() + "/",
		AccessClaims: s.Issuer.AccessClaims,
		IDClaims:     s.Issuer.IDClaims,
		Sign:         s.Issuer.Sign,
		SignedIn:     func(sub string) { s.Cognito.AddUser(standin.User{Username: sub, Sub: sub}) },
	}))
	env.values["MANAGED_LOGIN_URL"], env.values["SIGN_IN_AS"] = s.LoginURL, ""
	return err
}

// startES256 starts the issuer whose tokens the function authorize verifies, unless the settings
// name one.
func (s *Stack) startES256(env *environment) error {
	if env.values["JWT_ISSUER"] != "" {
		return nil
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return fmt.Errorf("listening: %w", err)
	}
	env.values["JWT_ISSUER"] = "http://" + l.Addr().String()
	s.ES256, err = issuer.NewES256(env.values["JWT_ISSUER"], env.values["JWT_AUDIENCE"])
	if err != nil {
		return errors.Join(err, l.Close())
	}
	_, err = s.serve(l, s.ES256)
	return err
}

// connect tells the functions where to find the services, with a proxy in front of each if there
// are to be faults.
func (s *Stack) connect(cfg Config, env *environment) error {
	faults := &Faults{Fakes: map[string]*fault.Proxy{}}
	if cfg.Faults {
		s.Faults = faults
	}
	for _, service := range []struct {
		variable, url string
		proxy         **fault.Proxy
	}{
		{"AWS_ENDPOINT_URL_DYNAMODB", s.DynamoDBURL, &faults.DynamoDB},
		{"AWS_ENDPOINT_URL_KMS", s.KMSURL, &faults.KMS},
		{"AWS_ENDPOINT_URL_SECRETS_MANAGER", s.SecretsManagerURL, &faults.SecretsManager},
		{"AWS_ENDPOINT_URL_COGNITO_IDENTITY_PROVIDER", s.CognitoURL, &faults.Cognito},
		{"AWS_ENDPOINT_URL_SQS", s.SQSURL, &faults.SQS},
		{"AWS_ENDPOINT_URL_LAMBDA", s.LambdaURL, &faults.Lambda},
		{"AGENTMAIL_BASE_URL", s.AgentMailURL, &faults.AgentMail},
	} {
		var err error
		*service.proxy, env.values[service.variable], err = s.reach(cfg, service.url)
		if err != nil {
			return err
		}
	}
	urls := map[string]string{}
	for name, f := range s.Fakes {
		var err error
		faults.Fakes[name], urls[name], err = s.reach(cfg, f.URL)
		if err != nil {
			return err
		}
	}
	return s.useFakes(cfg, env, urls)
}

// reach is where the functions find a service: behind a proxy, if there are to be faults.
func (s *Stack) reach(cfg Config, target string) (proxy *fault.Proxy, url string, err error) {
	if !cfg.Faults {
		return nil, target, nil
	}
	proxy = fault.New(target)
	url, err = s.serve(nil, proxy)
	return proxy, url, err
}

func (s *Stack) startGateway(cfg Config, deployed *template.Template, host *lambda.Host) (url string, err error) {
	var es256Token func(string) (string, error)
	if s.ES256 != nil {
		es256Token = s.ES256.AccessToken
	}
	board := http.NotFoundHandler()
	if deployed.Dashboard != "" { // an earlier version has none
		parsed, err := dashboard.Parse(deployed.Dashboard, telemetry.Namespace)
		if err != nil {
			return "", err
		}
		board = s.metrics.Page(parsed)
	}
	api, err := gateway.New(gateway.Config{
		Functions: deployed.Functions,
		Origins:   cfg.Origins,
		CORS:      deployed.CORS,
		Invoke:    host.Invoke,
		Verify:    s.Issuer.Verify,
		Issuer:    s.IssuerURL,
		Log:       s.log,
		Prefix:    cfg.Prefix,
		Local: gateway.Local{
			UserPoolID: s.UserPoolID,
			Token:      s.Issuer.AccessToken,
			ES256Token: es256Token,
			AddUser:    func(sub, username string) { s.Cognito.AddUser(standin.User{Username: username, Sub: sub}) },
			RemoveUser: s.removeUser,
			SwitchUser: s.Cognito.Switch,
			Dashboard:  board,
		},
	})
	if err != nil {
		return "", err
	}
	served := http.Handler(api)
	if cfg.Around != nil {
		served = cfg.Around(served)
	}
	return s.serve(cfg.Listener, served)
}

// Failed receives an error if a part of the stack ends by itself. What is left has to be closed.
func (s *Stack) Failed() <-chan error { return s.failed }

func (s *Stack) fail(err error) {
	select {
	case s.failed <- err:
	default: // One is enough.
	}
}

// Close ends everything that Start began, in order: no further requests, then what is under way,
// for up to 10 s, then the processes and servers. It returns once no process is left, and is safe
// to repeat.
func (s *Stack) Close() {
	s.closeOnce.Do(func() {
		for _, f := range slices.Backward(s.closers) {
			f()
		}
	})
}

// onClose has f done by Close, before what was said earlier.
func (s *Stack) onClose(f func()) { s.closers = append(s.closers, f) }

// serve serves until Close, which lets requests under way come to their end. Without a listener it
// takes a free port.
func (s *Stack) serve(l net.Listener, h http.Handler) (url string, err error) {
	if l == nil {
		l, err = net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return "", fmt.Errorf("listening: %w", err)
		}
	}
	server := &http.Server{Handler: h, ReadHeaderTimeout: 10 * time.Second, ErrorLog: log.New(s.log, "", 0)}
	go func() {
		err := server.Serve(l)
		if !errors.Is(err, http.ErrServerClosed) {
			s.fail(fmt.Errorf("serving %s: %w", l.Addr(), err))
		}
	}()
	s.onClose(func() {
		ctx, cancel := context.WithTimeout(context.Background(), grace)
		defer cancel()
		err := server.Shutdown(ctx)
		if err != nil {
			_ = server.Close()
		}
	})
	return "http://" + l.Addr().String(), nil
}

// background starts work that Close waits for. It does nothing once Close has been called.
func (s *Stack) background(work func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	select {
	case <-s.closing:
	default:
		s.work.Go(work)
	}
}

// drain waits for what runs in the background, and lets nothing begin there any more.
func (s *Stack) drain() {
	s.mu.Lock()
	close(s.closing)
	s.mu.Unlock()
	done := make(chan struct{})
	go func() {
		s.work.Wait()
		close(done)
	}()
	select {
	case <-done:
	case <-time.After(grace):
	}
}
