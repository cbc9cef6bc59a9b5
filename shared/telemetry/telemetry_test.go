package telemetry_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"reflect"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-lambda-go/lambdacontext"

	"managed-credentials/shared/credential"
	"managed-credentials/shared/telemetry"
)

// document is a metric as CloudWatch reads it.
type document struct {
	AWS struct {
		Timestamp         int64
		CloudWatchMetrics []directive
	} `json:"_aws"`
}

type directive struct {
	Namespace  string
	Dimensions [][]string
	Metrics    []map[string]string
}

// readMetric checks a line against what AWS demands of an embedded metric, and returns its
// directive and the members beside it.
// https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/CloudWatch_Embedded_Metric_Format_Specification.html
func readMetric(t *testing.T, line []byte) (directive, map[string]any) {
	t.Helper()
	var d document
	var members map[string]any
	err := errors.Join(json.Unmarshal(line, &d), json.Unmarshal(line, &members))
	if err != nil {
		t.Fatalf("%s: %v", line, err)
	}
	age := time.Since(time.UnixMilli(d.AWS.Timestamp))
	if age < 0 || age > time.Hour {
		t.Errorf("the metric is %v old, in milliseconds since 1970: %s", age, line)
	}
	if len(d.AWS.CloudWatchMetrics) != 1 {
		t.Fatalf("there is not one directive: %s", line)
	}
	only := d.AWS.CloudWatchMetrics[0]
	if only.Namespace == "" || len(only.Dimensions) == 0 || len(only.Metrics) == 0 {
		t.Errorf("the namespace, the dimensions or the metrics are missing: %s", line)
	}
	for _, dimensions := range only.Dimensions {
		for _, name := range dimensions {
			value, ok := members[name].(string)
			if !ok || value == "" || len(value) > 1024 {
				t.Errorf("the dimension %s has no text as its value: %s", name, line)
			}
		}
	}
	for _, metric := range only.Metrics {
		_, ok := members[metric["Name"]].(float64)
		if !ok {
			t.Errorf("the metric %s has no number as its value: %s", metric["Name"], line)
		}
	}
	delete(members, "_aws")
	return only, members
}

func TestAMetricIsCountedInAllAndForItsProvider(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	telemetry.NewMetrics(&out).Count(telemetry.CredentialsProvisioned, "agent_mail", 3)
	got, members := readMetric(t, out.Bytes())
	want := directive{
		Namespace:  "ManagedCredentials",
		Dimensions: [][]string{{}, {"provider"}},
		Metrics:    []map[string]string{{"Name": "CredentialsProvisioned", "Unit": "Count"}},
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v, want %+v", got, want)
	}
	if !reflect.DeepEqual(members, map[string]any{"provider": "agent_mail", "CredentialsProvisioned": 3.0}) {
		t.Errorf("beside it stand %v", members)
	}
}

// CloudWatch refuses a dimension without value, and the metric with it.
func TestAMetricOfNoProviderIsCountedInAllOnly(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	telemetry.NewMetrics(&out).Count(telemetry.ItemsUndecodable, "", 1)
	got, members := readMetric(t, out.Bytes())
	if !reflect.DeepEqual(got.Dimensions, [][]string{{}}) || !reflect.DeepEqual(members, map[string]any{"ItemsUndecodable": 1.0}) {
		t.Errorf("got the dimensions %v, and beside them %v", got.Dimensions, members)
	}
}

func TestAMetricOfAKindIsCountedInAllOnlyWhereThatIsAsked(t *testing.T) {
	t.Parallel()
	for inAll, dimensions := range map[bool][][]string{true: {{"kind"}, {}}, false: {{"kind"}}} {
		var out bytes.Buffer
		telemetry.NewMetrics(&out).CountKind(telemetry.AuditFindings, "agent_mail", "missing_key", 2, inAll)
		got, members := readMetric(t, out.Bytes())
		want := map[string]any{"provider": "agent_mail", "kind": "missing_key", "AuditFindings": 2.0}
		if !reflect.DeepEqual(got.Dimensions, dimensions) || !reflect.DeepEqual(members, want) {
			t.Errorf("got the dimensions %v, and beside them %v", got.Dimensions, members)
		}
	}
}

func TestTheAgeOfAnAuditIsToldByProviderAndInAll(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	telemetry.NewMetrics(&out).AuditAge("agent_mail", 90*time.Minute)
	line := out.String()
	if !strings.Contains(line, `"AuditAge":5400`) || !strings.Contains(line, `"Dimensions":[["provider"],[]]`) || !strings.Contains(line, `"provider":"agent_mail"`) {
		t.Errorf("it is told as %s", line)
	}
}

func TestABacklogIsToldByItsKind(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	telemetry.NewMetrics(&out).Backlog("dead", 3, 90*time.Second)
	lines := bytes.Split(bytes.TrimSpace(out.Bytes()), []byte("\n"))
	if len(lines) != 2 {
		t.Fatalf("written is %s", &out)
	}
	for i, want := range []struct {
		name, unit string
		value      float64
		dimensions [][]string
	}{
		{"WorkDue", "Count", 3, [][]string{{"kind"}}},
		{"OldestWork", "Seconds", 90, [][]string{{"kind"}, {}}},
	} {
		got, members := readMetric(t, lines[i])
		if !reflect.DeepEqual(got.Metrics, []map[string]string{{"Name": want.name, "Unit": want.unit}}) ||
			!reflect.DeepEqual(got.Dimensions, want.dimensions) || !reflect.DeepEqual(members, map[string]any{"kind": "dead", want.name: want.value}) {
			t.Errorf("got %+v, and beside it %v", got, members)
		}
	}
}

// wholeWrites fails the test for a write that is not one whole line: Lambda reads stdout line by
// line, from all goroutines at once.
type wholeWrites struct {
	t     *testing.T
	mu    sync.Mutex
	lines [][]byte
}

func (w *wholeWrites) Write(p []byte) (int, error) {
	if !w.mu.TryLock() {
		w.t.Error("two writes at once")
		w.mu.Lock()
	}
	defer w.mu.Unlock()
	runtime.Gosched() // to let another write in, if there is one
	if bytes.Count(p, []byte("\n")) != 1 || p[len(p)-1] != '\n' {
		w.t.Errorf("not one line: %q", p)
	}
	w.lines = append(w.lines, bytes.Clone(p))
	return len(p), nil
}

func TestMetricsAreWholeLinesWhoeverCounts(t *testing.T) {
	t.Parallel()
	out := &wholeWrites{t: t}
	m := telemetry.NewMetrics(out)
	var workers sync.WaitGroup
	for i := range 20 {
		workers.Go(func() { m.Count(telemetry.RevocationFailed, fmt.Sprint("provider\n", i), i) })
	}
	workers.Wait()
	if len(out.lines) != 20 {
		t.Errorf("there are %d lines", len(out.lines))
	}
	for _, line := range out.lines {
		readMetric(t, line)
	}
}

func TestAMetricThatCannotBeWrittenIsNoFailure(t *testing.T) {
	t.Parallel()
	_, closed := io.Pipe()
	err := closed.Close()
	if err != nil {
		t.Fatal(err)
	}
	telemetry.NewMetrics(closed).Count(telemetry.OrgKeyRejected, "agent_mail", 1)
}

// invocation is the context of a Lambda invocation.
func invocation(t *testing.T) context.Context {
	return lambdacontext.NewContext(t.Context(), &lambdacontext.LambdaContext{AwsRequestID: "request-1"})
}

func TestALogLineHasTheFormThatLambdaExpectsAndTheRequestID(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	telemetry.Logger(&out, slog.LevelInfo).WarnContext(invocation(t), "it failed", "provider", "agent_mail", "error", errors.New("why"))
	var line map[string]any
	err := json.Unmarshal(out.Bytes(), &line)
	if err != nil {
		t.Fatal(err)
	}
	at, ok := line["timestamp"].(string)
	_, err = time.Parse(time.RFC3339Nano, at)
	if !ok || err != nil {
		t.Errorf("the timestamp is %q, %v", at, err)
	}
	delete(line, "timestamp")
	want := map[string]any{"level": "WARN", "message": "it failed", "provider": "agent_mail", "error": "why", "requestId": "request-1"}
	if !reflect.DeepEqual(line, want) {
		t.Errorf("got %v, want %v", line, want)
	}
}

func TestTheRequestIDStaysWithDerivedLoggers(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	log := telemetry.Logger(&out, slog.LevelInfo)
	log.With("a", 1).InfoContext(invocation(t), "attributes")
	log.WithGroup("g").InfoContext(invocation(t), "group", "b", 2)
	lines := strings.Split(strings.TrimSpace(out.String()), "\n")
	if len(lines) != 2 {
		t.Fatalf("there are %d lines", len(lines))
	}
	for _, line := range lines {
		if strings.Count(line, `"requestId":"request-1"`) != 1 {
			t.Errorf("the request's id is missing: %s", line)
		}
	}
}

func TestOutsideAnInvocationThereIsNoRequestID(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	telemetry.Logger(&out, slog.LevelInfo).Info("starting")
	if strings.Contains(out.String(), "requestId") || !strings.Contains(out.String(), `"message":"starting"`) {
		t.Errorf("got %s", &out)
	}
}

func TestOnlyTheLevelThatWasAskedForIsLogged(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	log := telemetry.Logger(&out, slog.LevelWarn)
	log.Info("quiet")
	log.With("a", 1).Info("quiet")
	log.Warn("loud")
	if strings.Contains(out.String(), "quiet") || !strings.Contains(out.String(), "loud") {
		t.Errorf("got %s", &out)
	}
}

func TestALogLineRedacts(t *testing.T) {
	t.Parallel()
	const leak = "sk-live-4815162342"
	secret := credential.NewSecret(leak)
	var out bytes.Buffer
	log := telemetry.Logger(&out, slog.LevelDebug)
	log.Debug("secret", "a", secret, "b", &secret, "c", []credential.Secret{secret}, "d", credential.APIKeyMaterial(secret),
		"e", struct{ key credential.Secret }{secret}, slog.Group("f", "g", secret))
	log.With("a", secret).WithGroup("b").Info("secret", "c", fmt.Sprint(secret))
	if strings.Contains(out.String(), leak) {
		t.Errorf("the secret was logged:\n%s", &out)
	}
}
