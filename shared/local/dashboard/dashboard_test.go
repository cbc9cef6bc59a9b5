package dashboard_test

import (
	"net/http/httptest"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"managed-credentials/shared/local/dashboard"
	"managed-credentials/shared/local/template"
	"managed-credentials/shared/telemetry"
)

// clock is a time that a test moves.
type clock struct{ now time.Time }

func (c *clock) read() time.Time { return c.now }

// board is the deployed dashboard with metrics of its own.
type board struct {
	clock
	d       dashboard.Dashboard
	metrics *dashboard.Metrics
	written *telemetry.Metrics
}

func newBoard(t *testing.T) *board {
	t.Helper()
	deployed, err := template.Load(".")
	if err != nil {
		t.Fatal(err)
	}
	b := &board{clock: clock{time.Now()}}
	b.d, err = dashboard.Parse(deployed.Dashboard, telemetry.Namespace)
	if err != nil {
		t.Fatal(err)
	}
	b.metrics = dashboard.NewMetrics(b.read)
	b.written = telemetry.NewMetrics(b.metrics)
	return b
}

// lines are those of a widget as the page shows them: label and figure.
func (b *board) lines(title string) []string {
	w := httptest.NewRecorder()
	b.metrics.Page(b.d).ServeHTTP(w, httptest.NewRequest("GET", "/", nil))
	_, widget, _ := strings.Cut(w.Body.String(), "<h2>"+title+"</h2>")
	widget, _, _ = strings.Cut(widget, "</section>")
	var all []string
	for _, row := range regexp.MustCompile(`(?s)<th scope="row">([^<]*)</th>.*?<td>([^<]*)</td></tr>`).FindAllStringSubmatch(widget, -1) {
		all = append(all, row[1]+": "+row[2])
	}
	return all
}

func TestTheDeployedDashboardShowsWhatTheFunctionsWrite(t *testing.T) {
	t.Parallel()
	b := newBoard(t)
	b.written.Count(telemetry.CredentialsRevoked, "agent_mail", 3)
	b.now = b.now.Add(time.Minute)
	b.written.Count(telemetry.CredentialsRevoked, "agent_mail", 2)
	got := b.lines("Deletions")
	if !slices.Contains(got, "CredentialsRevoked: 5") || !slices.Contains(got, "AccountsDeleted: 0") {
		t.Errorf("deletions are shown as %q", got)
	}
}

func TestOfWhatIsDueTheLatestFigureIsShownByItsKind(t *testing.T) {
	t.Parallel()
	b := newBoard(t)
	b.written.Backlog("dead", 40, 90*time.Second)
	b.written.Backlog("dead", 7, 30*time.Second)
	want := []string{"WorkDue live: 0", "WorkDue dead: 7"}
	if got := b.lines("Due work that a round has left"); !slices.Equal(got, want) {
		t.Errorf("due work is shown as %q, want %q", got, want)
	}
}

func TestWhatASearchFindsIsShownByProvider(t *testing.T) {
	t.Parallel()
	b := newBoard(t)
	if got := b.lines("Calls that third parties refused, by provider"); len(got) > 0 {
		t.Errorf("nothing was refused, and shown is %q", got)
	}
	b.written.Count(telemetry.CallsRefused, "openrouter", 1)
	b.written.Count(telemetry.CallsRefused, "agent_mail", 2)
	want := []string{"CallsRefused agent_mail: 2", "CallsRefused openrouter: 1"}
	if got := b.lines("Calls that third parties refused, by provider"); !slices.Equal(got, want) {
		t.Errorf("refused calls are shown as %q, want %q", got, want)
	}
}

func TestAValueIsForgottenAfterTenMinutes(t *testing.T) {
	t.Parallel()
	b := newBoard(t)
	b.written.Count(telemetry.AccountsDeleted, "", 1)
	b.now = b.now.Add(10*time.Minute - time.Second)
	if got := b.lines("Deletions"); !slices.Contains(got, "AccountsDeleted: 1") {
		t.Errorf("a second before: %q", got)
	}
	b.now = b.now.Add(time.Second)
	if got := b.lines("Deletions"); !slices.Contains(got, "AccountsDeleted: 0") {
		t.Errorf("after it: %q", got)
	}
}

func TestLinesThatAreNoMetricsArePassedOver(t *testing.T) {
	t.Parallel()
	b := newBoard(t)
	for _, line := range []string{
		`[reconcile] {"level":"INFO","msg":"done"}`,
		`[reconcile] {"_aws": broken`,
		`[reconcile] {"_aws":{"CloudWatchMetrics":[{"Dimensions":[[]],"Metrics":[{"Name":"AccountsDeleted"}]}]},"AccountsDeleted":"many"}`,
		`plain text with "_aws"`,
	} {
		n, err := b.metrics.Write([]byte(line + "\n"))
		if n != len(line)+1 || err != nil {
			t.Errorf("%s: %d, %v", line, n, err)
		}
	}
	if got := b.lines("Deletions"); !slices.Contains(got, "AccountsDeleted: 0") {
		t.Errorf("deletions are shown as %q", got)
	}
}

func TestADashboardThatIsNotUnderstoodIsRefused(t *testing.T) {
	t.Parallel()
	for _, body := range []string{
		`{`,
		`{"widgets":[]}`,
		`{"widgets":[{"properties":{"metrics":[["AWS/Lambda","Errors"]]}}]}`,
		`{"widgets":[{"properties":{"metrics":[["ManagedCredentials","A","kind","x","provider","y"]]}}]}`,
		`{"widgets":[{"properties":{"metrics":[["ManagedCredentials","A"],[{}]]}}]}`,
		`{"widgets":[{"properties":{"metrics":[["ManagedCredentials","A"],[{"expression":"SEARCH('everything', 'Sum', 300)"}]]}}]}`,
	} {
		d, err := dashboard.Parse(body, telemetry.Namespace)
		if err == nil {
			t.Errorf("%s is read as %+v", body, d)
		}
	}
}
