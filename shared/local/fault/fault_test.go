package fault_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/retry"
	"github.com/aws/aws-sdk-go-v2/credentials"
	awskms "github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"
	"github.com/aws/smithy-go"

	"managed-credentials/shared/local/fault"
	"managed-credentials/shared/local/standin"
)

const keyID = "11111111-2222-3333-4444-555555555555"

// setup is the KMS stand-in behind a proxy.
type setup struct {
	proxy *fault.Proxy
	url   string // of the proxy
	// arrived counts the requests that the stand-in itself has seen.
	arrived atomic.Int32
}

func start(t *testing.T) *setup {
	t.Helper()
	s := &setup{}
	standIn := standin.NewKMS(standin.Key{ID: keyID})
	target := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.arrived.Add(1)
		standIn.ServeHTTP(w, r)
	}))
	t.Cleanup(target.Close)
	s.proxy, s.url = proxy(t, target.URL)
	return s
}

func proxy(t *testing.T, target string) (*fault.Proxy, string) {
	t.Helper()
	p := fault.New(target)
	server := httptest.NewServer(p)
	t.Cleanup(server.Close)
	return p, server.URL
}

// client calls KMS through the proxy and never repeats a call.
func (s *setup) client() *awskms.Client { return s.clientWith(aws.NopRetryer{}) }

func (s *setup) clientWith(retryer aws.Retryer) *awskms.Client {
	return awskms.New(awskms.Options{
		Region:       "us-east-1",
		BaseEndpoint: aws.String(s.url),
		Credentials:  credentials.NewStaticCredentialsProvider("local", "local", ""),
		Retryer:      retryer,
	})
}

// standardRetryer repeats what the SDK repeats by default, without waiting in between.
func standardRetryer() aws.Retryer {
	return retry.NewStandard(func(o *retry.StandardOptions) {
		o.Backoff = retry.BackoffDelayerFunc(func(int, error) (time.Duration, error) { return 0, nil })
	})
}

func encrypt(ctx context.Context, client *awskms.Client) error {
	_, err := client.Encrypt(ctx, &awskms.EncryptInput{KeyId: aws.String(keyID), Plaintext: []byte("secret")})
	return err
}

// always gives every call the same fault.
func always(f fault.Fault) func(*fault.Call) fault.Fault {
	return func(*fault.Call) fault.Fault { return f }
}

func (s *setup) wantArrived(t *testing.T, want int32) {
	t.Helper()
	if got := s.arrived.Load(); got != want {
		t.Errorf("the target saw %d requests, want %d", got, want)
	}
}

// wantNoAnswer checks that the client got nothing from the service, not even an error.
func wantNoAnswer(t *testing.T, err error) {
	t.Helper()
	var api smithy.APIError
	switch {
	case err == nil:
		t.Error("the call succeeded")
	case errors.As(err, &api):
		t.Errorf("the client got an answer: %v", err)
	case !errors.Is(err, io.EOF):
		t.Errorf("got %v, want EOF", err)
	}
}

func TestWithoutAFaultACallPassesAndIsRecorded(t *testing.T) {
	t.Parallel()
	s := start(t)
	s.proxy.SetHook(always(nil))
	sealed, err := s.client().Encrypt(t.Context(), &awskms.EncryptInput{KeyId: aws.String(keyID), Plaintext: []byte("secret")})
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		opened, err := s.client().Decrypt(t.Context(), &awskms.DecryptInput{CiphertextBlob: sealed.CiphertextBlob})
		if err != nil {
			t.Fatal(err)
		}
		if string(opened.Plaintext) != "secret" {
			t.Errorf("got %q", opened.Plaintext)
		}
	}

	var seen []string
	for _, c := range s.proxy.Calls() {
		seen = append(seen, fmt.Sprintf("%d %s %s %d", c.Seq, c.Service, c.Op, c.Nth))
		if !bytes.HasPrefix(c.Body, []byte("{")) || c.Time.IsZero() {
			t.Errorf("call %d: body %q at %v", c.Seq, c.Body, c.Time)
		}
	}
	want := "[1 TrentService Encrypt 1 2 TrentService Decrypt 1 3 TrentService Decrypt 2]"
	if fmt.Sprint(seen) != want {
		t.Errorf("calls %v, want %s", seen, want)
	}
	if n := s.proxy.Count("Decrypt"); n != 2 {
		t.Errorf("counted %d decryptions", n)
	}
}

func TestResetStartsCountingAnew(t *testing.T) {
	t.Parallel()
	s := start(t)
	s.proxy.SetHook(always(fault.AWSError(http.StatusBadRequest, "AccessDeniedException", "")))
	_ = encrypt(t.Context(), s.client())
	s.proxy.Reset()
	if len(s.proxy.Calls()) != 0 || s.proxy.Count("Encrypt") != 0 {
		t.Error("calls are left")
	}
	err := encrypt(t.Context(), s.client())
	if err == nil {
		t.Error("the hook is gone")
	}
	if calls := s.proxy.Calls(); len(calls) != 1 || calls[0].Seq != 1 || calls[0].Nth != 1 {
		t.Errorf("calls after a reset: %+v", calls)
	}
}

func TestAPlainRequestPassesWholeAndIsNamedByMethodAndPath(t *testing.T) {
	t.Parallel()
	target := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		w.Header().Set("X-Seen", fmt.Sprintf("%s %s %q %q %s", r.Method, r.RequestURI, r.Header.Get("Authorization"), r.Header.Get("Accept-Encoding"), body))
		w.WriteHeader(http.StatusTeapot)
		_, _ = w.Write(bytes.Repeat([]byte("x"), 10_000))
	}))
	t.Cleanup(target.Close)
	p, url := proxy(t, target.URL+"/")

	req, err := http.NewRequestWithContext(t.Context(), http.MethodPut, url+"/v0/pods/a%2Fb?limit=1", strings.NewReader("hello"))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer x")
	client := &http.Client{Transport: &http.Transport{DisableCompression: true}} // It sends no Accept-Encoding, nor may the proxy.
	resp, err := client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	if got, want := resp.Header.Get("X-Seen"), `PUT /v0/pods/a%2Fb?limit=1 "Bearer x" "" hello`; got != want {
		t.Errorf("the target saw %s, want %s", got, want)
	}
	if resp.StatusCode != http.StatusTeapot || len(body) != 10_000 || resp.ContentLength != 10_000 {
		t.Errorf("status %d, %d bytes, length %d", resp.StatusCode, len(body), resp.ContentLength)
	}
	if p.Count("PUT /v0/pods/a/b") != 1 {
		t.Errorf("recorded as %s", p.Calls()[0].Op)
	}
}

func TestADroppedCallNeverReachesTheTarget(t *testing.T) {
	t.Parallel()
	s := start(t)
	s.proxy.SetHook(always(fault.Drop()))
	wantNoAnswer(t, encrypt(t.Context(), s.client()))
	s.wantArrived(t, 0)
	if n := s.proxy.Count("Encrypt"); n != 1 {
		t.Errorf("recorded %d calls", n)
	}
}

func TestTheSDKRepeatsADroppedCall(t *testing.T) {
	t.Parallel()
	s := start(t)
	s.proxy.SetHook(func(c *fault.Call) fault.Fault {
		if c.Nth == 1 {
			return fault.Drop()
		}
		return nil
	})
	err := encrypt(t.Context(), s.clientWith(standardRetryer()))
	if err != nil {
		t.Error(err)
	}
	s.wantArrived(t, 1)
	if n := s.proxy.Count("Encrypt"); n != 2 {
		t.Errorf("recorded %d calls", n)
	}
}

// net/http would repeat the GET by itself if it had gone out on a connection that was used before.
func TestACallIsRepeatedByNobodyButTheCaller(t *testing.T) {
	t.Parallel()
	var arrived atomic.Int32
	target := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		if arrived.Add(1) > 1 {
			panic(http.ErrAbortHandler)
		}
	}))
	t.Cleanup(target.Close)
	p, url := proxy(t, target.URL)
	client := &http.Client{Transport: &http.Transport{}}
	get := func() (int, error) {
		resp, err := client.Get(url)
		if err != nil {
			return 0, err
		}
		_, _ = io.Copy(io.Discard, resp.Body)
		return resp.StatusCode, resp.Body.Close()
	}

	status, err := get()
	if status != http.StatusOK || err != nil {
		t.Fatalf("got %d, %v", status, err)
	}
	status, err = get()
	if status != http.StatusBadGateway || err != nil {
		t.Errorf("got %d, %v", status, err)
	}
	if n := arrived.Load(); n != 2 {
		t.Errorf("the proxy forwarded %d requests, the client made 2", n)
	}
	p.SetHook(always(fault.Drop()))
	_, err = get()
	if err == nil {
		t.Error("the dropped call succeeded")
	}
	if n := p.Count("GET /"); n != 3 {
		t.Errorf("recorded %d calls, the client made 3", n)
	}
}

func TestALostAnswerLeavesTheEffect(t *testing.T) {
	t.Parallel()
	s := start(t)
	s.proxy.SetHook(always(fault.LoseAnswer()))
	wantNoAnswer(t, encrypt(t.Context(), s.client()))
	s.wantArrived(t, 1)
}

func TestAnErrorMayComeWithOrWithoutTheEffect(t *testing.T) {
	t.Parallel()
	disabled := fault.AWSError(http.StatusBadRequest, "DisabledException", "switched off")
	for name, tc := range map[string]struct {
		fault   fault.Fault
		arrived int32
	}{
		"without": {disabled, 0},
		"with":    {fault.Delivered(disabled), 1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := start(t)
			s.proxy.SetHook(always(tc.fault))
			err := encrypt(t.Context(), s.client())
			var typed *types.DisabledException
			if !errors.As(err, &typed) || typed.ErrorMessage() != "switched off" {
				t.Errorf("got %v", err)
			}
			s.wantArrived(t, tc.arrived)
		})
	}
}

func TestAnErrorWithoutAMessageHasNone(t *testing.T) {
	t.Parallel()
	s := start(t)
	s.proxy.SetHook(always(fault.AWSError(http.StatusBadRequest, "InvalidCiphertextException", "")))
	err := encrypt(t.Context(), s.client())
	var typed *types.InvalidCiphertextException
	if !errors.As(err, &typed) || typed.Message != nil {
		t.Errorf("got %v", err)
	}
}

func TestRespondGivesExactlyThisAnswer(t *testing.T) {
	t.Parallel()
	s := start(t)
	s.proxy.SetHook(always(fault.Respond(http.StatusTooManyRequests, http.Header{"Retry-After": {"7"}}, []byte(`{"name":"x"}`))))
	resp, err := http.Post(s.url+"/v0/pods", "application/json", strings.NewReader("{}"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	if resp.StatusCode != http.StatusTooManyRequests || resp.Header.Get("Retry-After") != "7" || string(body) != `{"name":"x"}` {
		t.Errorf("got %d %v %s", resp.StatusCode, resp.Header, body)
	}
	s.wantArrived(t, 0)
}

func TestTwiceDoesItTwiceAndGivesTheSecondAnswer(t *testing.T) {
	t.Parallel()
	var n atomic.Int32
	target := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		_, _ = fmt.Fprintf(w, "%s for the %d. time", body, n.Add(1))
	}))
	t.Cleanup(target.Close)
	p, url := proxy(t, target.URL)
	p.SetHook(always(fault.Twice()))
	resp, err := http.Post(url, "text/plain", strings.NewReader("hello"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	if string(body) != "hello for the 2. time" || n.Load() != 2 {
		t.Errorf("got %q after %d requests", body, n.Load())
	}
	if p.Count("POST /") != 1 {
		t.Errorf("counted %d calls, the client made 1", p.Count("POST /"))
	}
}

func TestALateRequestTakesEffectWhenDelivered(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		now   fault.Fault
		check func(*testing.T, error)
	}{
		"dropped now": {fault.Drop(), wantNoAnswer},
		"error now": {fault.AWSError(http.StatusBadRequest, "KMSInternalException", ""), func(t *testing.T, err error) {
			var internal *types.KMSInternalException
			if !errors.As(err, &internal) {
				t.Errorf("got %v", err)
			}
		}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := start(t)
			s.proxy.SetHook(always(fault.Later(fault.UntilReleased, tc.now)))
			tc.check(t, encrypt(t.Context(), s.client()))
			s.wantArrived(t, 0)

			err := s.proxy.Deliver()
			if err != nil {
				t.Fatal(err)
			}
			s.wantArrived(t, 1)

			err = s.proxy.Deliver()
			if err == nil {
				t.Error("delivered again")
			}
			s.wantArrived(t, 1)
		})
	}
}

func TestLateRequestsArriveInTheirOrderAndAfterLaterOnes(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	var order []string
	target := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		order = append(order, r.URL.Path)
	}))
	t.Cleanup(target.Close)
	p, url := proxy(t, target.URL)
	p.SetHook(func(c *fault.Call) fault.Fault {
		if c.Op == "POST /c" {
			return nil
		}
		return fault.Later(fault.UntilReleased, fault.Respond(http.StatusBadGateway, nil, nil))
	})
	for _, path := range []string{"/a", "/b", "/c"} {
		resp, err := http.Post(url+path, "text/plain", nil)
		if err != nil {
			t.Fatal(err)
		}
		_ = resp.Body.Close()
	}
	err := p.Deliver()
	if err != nil {
		t.Fatal(err)
	}
	if fmt.Sprint(order) != "[/c /a /b]" {
		t.Errorf("arrived as %v", order)
	}
}

func TestDeliveringLateReportsATargetThatIsGone(t *testing.T) {
	t.Parallel()
	target := httptest.NewServer(http.NotFoundHandler())
	p, url := proxy(t, target.URL)
	p.SetHook(always(fault.Later(fault.UntilReleased, fault.Respond(http.StatusOK, nil, nil))))
	resp, err := http.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
	target.Close()
	err = p.Deliver()
	if err == nil {
		t.Error("no error")
	}
}

func TestABlockedRequestIsForwardedOnlyWhenReleased(t *testing.T) {
	t.Parallel()
	s := start(t)
	release, waiting := make(chan struct{}), make(chan struct{})
	s.proxy.SetHook(always(fault.Before(func(ctx context.Context) {
		close(waiting)
		fault.Until(release)(ctx)
	}, nil)))
	result := make(chan error, 1)
	go func() { result <- encrypt(t.Context(), s.client()) }()
	<-waiting
	s.wantArrived(t, 0)
	close(release)
	err := <-result
	if err != nil {
		t.Error(err)
	}
	s.wantArrived(t, 1)
}

func TestABlockedAnswerComesAfterTheEffect(t *testing.T) {
	t.Parallel()
	s := start(t)
	release, waiting := make(chan struct{}), make(chan struct{})
	s.proxy.SetHook(always(fault.After(func(ctx context.Context) {
		close(waiting)
		fault.Until(release)(ctx)
	}, nil)))
	result := make(chan error, 1)
	go func() { result <- encrypt(t.Context(), s.client()) }()
	<-waiting
	s.wantArrived(t, 1)
	select {
	case err := <-result:
		t.Errorf("answered too early: %v", err)
	default:
	}
	close(release)
	err := <-result
	if err != nil {
		t.Error(err)
	}
}

// The waits here would outlast the test: they end because the client goes away.
func TestWaitingEndsWithTheClient(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		fault   func(fault.Wait) fault.Fault
		wait    fault.Wait
		arrived int32
	}{
		"before, for a time":  {func(w fault.Wait) fault.Fault { return fault.Before(w, fault.LoseAnswer()) }, fault.For(time.Hour), 0},
		"before, until":       {func(w fault.Wait) fault.Fault { return fault.Before(w, nil) }, fault.Until(nil), 0},
		"after, for a time":   {func(w fault.Wait) fault.Fault { return fault.After(w, nil) }, fault.For(time.Hour), 1},
		"after an error":      {func(w fault.Wait) fault.Fault { return fault.After(w, fault.Throttled()) }, fault.Until(nil), 0},
		"between two effects": {func(w fault.Wait) fault.Fault { return fault.Delivered(fault.Before(w, nil)) }, fault.Until(nil), 1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := start(t)
			waiting, ended := make(chan struct{}), make(chan struct{})
			f := tc.fault(func(ctx context.Context) {
				close(waiting)
				tc.wait(ctx)
			})
			s.proxy.SetHook(always(func(ctx context.Context, c *fault.Call) (*fault.Answer, error) {
				defer close(ended)
				return f(ctx, c)
			}))
			ctx, leave := context.WithCancel(t.Context())
			result := make(chan error, 1)
			go func() { result <- encrypt(ctx, s.client()) }()
			<-waiting
			leave()
			err := <-result
			if !errors.Is(err, context.Canceled) {
				t.Errorf("got %v", err)
			}
			<-ended
			s.wantArrived(t, tc.arrived)
		})
	}
}

func TestForWaitsNoLongerThanItsTime(t *testing.T) {
	t.Parallel()
	s := start(t)
	s.proxy.SetHook(always(fault.Before(fault.For(time.Millisecond), fault.After(fault.For(time.Millisecond), nil))))
	err := encrypt(t.Context(), s.client())
	if err != nil {
		t.Error(err)
	}
}

// A client that stops waiting does not stop what Delivered has promised.
func TestDeliveredFinishesForAClientThatHasGone(t *testing.T) {
	t.Parallel()
	arrived, release := make(chan struct{}), make(chan struct{})
	target := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
		close(arrived)
		<-release
	}))
	t.Cleanup(target.Close)
	p, url := proxy(t, target.URL)
	gone, finished := make(chan struct{}), make(chan error, 1)
	p.SetHook(always(func(ctx context.Context, c *fault.Call) (*fault.Answer, error) {
		context.AfterFunc(ctx, func() { close(gone) })
		a, err := fault.LoseAnswer()(ctx, c)
		finished <- err
		return a, err
	}))
	ctx, leave := context.WithCancel(t.Context())
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	result := make(chan error, 1)
	go func() {
		_, err := http.DefaultClient.Do(req)
		result <- err
	}()
	<-arrived
	leave()
	err = <-result
	if !errors.Is(err, context.Canceled) {
		t.Errorf("the client got %v", err)
	}
	<-gone
	close(release)
	err = <-finished
	if err != nil {
		t.Errorf("the request was cut off: %v", err)
	}
}

func TestATargetOutOfReachIsABadGateway(t *testing.T) {
	t.Parallel()
	target := httptest.NewServer(http.NotFoundHandler())
	target.Close()
	for name, f := range map[string]fault.Fault{"pass": nil, "delivered": fault.LoseAnswer()} {
		p, url := proxy(t, target.URL)
		p.SetHook(always(f))
		resp, err := http.Get(url)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		_ = resp.Body.Close()
		if resp.StatusCode != http.StatusBadGateway {
			t.Errorf("%s: status %d", name, resp.StatusCode)
		}
	}
}

func TestARequestThatIsTooLargeIsRefused(t *testing.T) {
	t.Parallel()
	s := start(t)
	req := httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/", io.LimitReader(zeros{}, 16<<20+1))
	w := httptest.NewRecorder()
	s.proxy.ServeHTTP(w, req)
	if w.Code != http.StatusRequestEntityTooLarge {
		t.Errorf("status %d", w.Code)
	}
	s.wantArrived(t, 0)
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { return len(p), nil }

func TestManyClientsAtOnceAreAllCounted(t *testing.T) {
	t.Parallel()
	s := start(t)
	s.proxy.SetHook(func(c *fault.Call) fault.Fault {
		if c.Nth%2 == 0 {
			return fault.Drop()
		}
		return nil
	})
	const clients = 40
	var failed atomic.Int32
	var wg sync.WaitGroup
	for range clients {
		wg.Go(func() {
			err := encrypt(t.Context(), s.client())
			if err != nil {
				failed.Add(1)
			}
			_ = s.proxy.Calls()
			_ = s.proxy.Count("Encrypt")
		})
	}
	wg.Wait()
	if n := s.proxy.Count("Encrypt"); n != clients {
		t.Errorf("counted %d calls", n)
	}
	if n := failed.Load(); n != clients/2 {
		t.Errorf("%d calls failed", n)
	}
	s.wantArrived(t, clients/2)
	for i, c := range s.proxy.Calls() {
		if c.Seq != i+1 || c.Nth != i+1 {
			t.Errorf("call %d has Seq %d and Nth %d", i+1, c.Seq, c.Nth)
		}
	}
}
