// Program bench measures the built functions, each beside a bare one that does the same by hand and
// keeps none of the promises. Every figure is a ratio: the two run in turn, on one machine and in
// one run, so that whatever slows the machine down slows both.
//
//	make bench
//
// It prints a table and writes the same as JSON. It needs Linux.
package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"managed-credentials/shared/local/lambda"
	"managed-credentials/shared/local/stack"
	"managed-credentials/shared/local/template"
	"managed-credentials/shared/provider/agentmail"
	"managed-credentials/shared/provider/agentmail/fake"
)

func main() {
	out := flag.String("out", "dist/bench.json", "the file that the figures are written to")
	short := flag.Bool("short", false, "measure each figure a few times only, to see that all of it works")
	only := flag.String("only", "", "the parts to measure, with commas between them: sizes, starts, lists, first, creations, races, deletions, rounds, soak; all if empty")
	flag.Parse()
	err := run(context.Background(), *out, *only, *short)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// Report is what is written as JSON.
type Report struct {
	// At is when it was measured, and On what.
	At      time.Time `json:"at"`
	On      string    `json:"on"`
	CPUs    int       `json:"cpus"`
	Go      string    `json:"go"`
	Short   bool      `json:"short"`
	Figures []Figure  `json:"figures"`
}

// bench is the two sides under measurement.
type bench struct {
	*stack.Stack
	host  *lambda.Host // has each function and its bare counterpart
	short bool
	// users counts those who were made up.
	users int
	// tables counts the tables that were made beside the stack's own.
	tables int
}

func run(ctx context.Context, out, only string, short bool) error {
	root, err := template.Root(".")
	if err != nil {
		return err
	}
	if !filepath.IsAbs(out) {
		out = filepath.Join(root, out)
	}
	b, err := start(ctx, root, short)
	if err != nil {
		return err
	}
	defer b.Close()
	defer b.host.Close()
	report := Report{At: time.Now().UTC().Truncate(time.Second), On: runtime.GOOS + "/" + runtime.GOARCH, CPUs: runtime.NumCPU(), Go: runtime.Version(), Short: short}
	for _, part := range []struct {
		name    string
		measure func(context.Context) ([]Figure, error)
	}{
		{"sizes", b.sizes},
		{"starts", b.coldStarts},
		{"lists", b.hotLists},
		{"first", b.firstLists},
		{"creations", b.creations},
		{"races", b.races},
		{"deletions", b.deletions},
		{"rounds", b.reconciles},
		{"soak", b.soak},
	} {
		if only != "" && !slices.Contains(strings.Split(only, ","), part.name) {
			continue
		}
		figures, err := part.measure(ctx)
		if err != nil {
			return err
		}
		report.Figures = append(report.Figures, figures...)
	}
	err = show(os.Stdout, report.Figures)
	if err != nil {
		return err
	}
	text, err := json.MarshalIndent(report, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(out, append(text, '\n'), 0o600)
}

// start starts a stack, and a host of its functions and the bare ones.
func start(ctx context.Context, root string, short bool) (*bench, error) {
	bare, err := buildBare(ctx, root)
	if err != nil {
		return nil, err
	}
	s, err := stack.Start(ctx, stack.Config{Dir: root, Env: map[string]string{"SYSTEM_CREDENTIALS": "{}"}})
	if err != nil {
		return nil, err
	}
	var all []lambda.Function
	for _, f := range s.Functions {
		all = append(all, f)
		f.Bootstrap = filepath.Join(bare, f.Name, "bootstrap")
		f.Name = bareOf(f.Name)
		all = append(all, f)
		if f.Name == bareOf(list) {
			f.Name, f.Bootstrap = bareList, filepath.Join(bare, bareList, "bootstrap")
			f.Env = maps.Clone(f.Env)
			f.Env["ORG_KEY"], f.Env["AGENTMAIL_BASE_URL"] = fake.OrgKey, s.AgentMailURL
			all = append(all, f)
		}
	}
	return &bench{Stack: s, host: lambda.New(lambda.Config{Functions: all}), short: short}, nil
}

// The function that is measured most, what does the same by hand, and the name of another one's
// bare counterpart, which has its clients and does nothing.
const (
	list     = "list-with-provision"
	bareList = "bare"
)

func bareOf(function string) string { return "bare-" + function }

// rounds is how many pairs are measured.
func (b *bench) rounds(n int) int {
	if b.short {
		return 3
	}
	return n
}

// progress says what is measured now.
func progress(format string, values ...any) { fmt.Fprintf(os.Stderr, format+" …\n", values...) }

// show prints the figures as a table.
func show(to io.Writer, figures []Figure) error {
	w := tabwriter.NewWriter(to, 0, 0, 2, ' ', tabwriter.AlignRight)
	_, _ = fmt.Fprintln(w, "what\tours\tbare\tratio\tits middle half\tpairs\t")
	for _, f := range figures {
		_, _ = fmt.Fprintf(w, "%s\t%s\t%s\t%.2f\t%.2f to %.2f\t%d\t\n", f.What, f.value(f.Ours), f.value(f.Bare), f.Ratio, f.Low, f.High, f.Pairs)
	}
	return w.Flush()
}

// user makes up a user, and returns the event in which they list.
func (b *bench) user() (user string, event []byte) {
	b.users++
	user = fmt.Sprintf("bench-%06d", b.users)
	return user, []byte(strings.ReplaceAll(listEvent, "USER", user))
}

// listEvent is all of an event that API Gateway sends, so that both have the same to read.
const listEvent = `{"version":"2.0","routeKey":"GET /credentials","rawPath":"/credentials","rawQueryString":"",` +
	`"headers":{"accept":"application/json","authorization":"Bearer header.payload.signature","host":"a1b2c3d4e5.execute-api.us-east-1.amazonaws.com",` +
	`"user-agent":"Mozilla/5.0","x-amzn-trace-id":"Root=1-69563790-1a2b3c4d5e6f708192a3b4c5","x-forwarded-for":"192.0.2.10",` +
	`"x-forwarded-port":"443","x-forwarded-proto":"https"},"requestContext":{"accountId":"111122223333","apiId":"a1b2c3d4e5",` +
	`"authorizer":{"jwt":{"claims":{"sub":"USER","username":"USER","token_use":"access","client_id":"client",` +
	`"iss":"https://cognito-idp.us-east-1.amazonaws.com/us-east-1_Example01","scope":"openid email","auth_time":"1767257880",` +
	`"iat":"1767257880","exp":"1767258780","jti":"f47ac10b-58cc-4372-a567-0e02b2c3d479","version":"2"},"scopes":null}},` +
	`"domainName":"a1b2c3d4e5.execute-api.us-east-1.amazonaws.com","domainPrefix":"a1b2c3d4e5","http":{"method":"GET","path":"/credentials",` +
	`"protocol":"HTTP/1.1","sourceIp":"192.0.2.10","userAgent":"Mozilla/5.0"},"requestId":"XkT3tjSyIAMEJ6w=","routeKey":"GET /credentials",` +
	`"stage":"$default","time":"01/Jan/2026:09:00:00 +0000","timeEpoch":1767258000000},"isBase64Encoded":false}`

// list has a function list, and returns the credentials as it shows them. There has to be one of
// AgentMail's.
func (b *bench) list(ctx context.Context, function string, event []byte) (credentials string, err error) {
	answer, err := b.host.Invoke(ctx, function, event)
	if err != nil {
		return "", err
	}
	var response struct {
		StatusCode int    `json:"statusCode"`
		Body       string `json:"body"`
	}
	err = json.Unmarshal(answer, &response)
	if err != nil {
		return "", err
	}
	if response.StatusCode != 200 || !strings.Contains(response.Body, agentmail.Name) {
		return "", fmt.Errorf("%s answered %s", function, answer)
	}
	return response.Body, nil
}
