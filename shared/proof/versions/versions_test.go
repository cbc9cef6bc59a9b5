// Package versions_test runs the last release's functions beside these on one table, as while a
// deployment shifts from one to the other, or back. Whatever one version has begun the other one
// goes on with: nothing is lost, nothing is left behind, and neither meets an item that it cannot
// read.
//
// Which commit the last release is stands in the file last-release. It is built from the
// repository's history, so that a clone without that commit fails.
package versions_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"managed-credentials/shared/credential"
	"managed-credentials/shared/local/fault"
	"managed-credentials/shared/local/stack"
	"managed-credentials/shared/local/stack/stacktest"
	"managed-credentials/shared/local/template"
	"managed-credentials/shared/managed"
	"managed-credentials/shared/provider/agentmail"
	"managed-credentials/shared/provider/agentmail/fake"
)

// last is the last release: its tree, and what was built of it.
var last struct{ dir, dist string }

func TestMain(m *testing.M) { os.Exit(run(m)) }

func run(m *testing.M) int {
	scratch, err := os.MkdirTemp("", "last-release-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer func() { _ = os.RemoveAll(scratch) }()
	last.dir, last.dist = filepath.Join(scratch, "tree"), filepath.Join(scratch, "dist")
	err = build()
	if err != nil {
		fmt.Fprintf(os.Stderr, "building the last release: %v\n", err)
		return 1
	}
	return stacktest.Main(m, nil)
}

// build builds the last release, as its Makefile does, but for the page, which is not looked at.
func build() error {
	file, err := os.ReadFile("last-release")
	if err != nil {
		return err
	}
	commit := strings.TrimSpace(string(file))
	root, err := template.Root(".")
	if err != nil {
		return err
	}
	err = os.MkdirAll(last.dir, 0o700)
	if err != nil {
		return err
	}
	// Whoever owns the clone: nothing of it is run but what the commit holds.
	git := []string{"-c", "safe.directory=*", "-C", root}
	_, err = output("git", append(git, "cat-file", "-e", commit+"^{commit}")...)
	if err != nil {
		return fmt.Errorf("this clone does not have the commit %s, which shared/proof/versions/last-release names; "+
			"`git fetch --unshallow` brings it to a shallow clone: %w", commit, err)
	}
	archive := filepath.Join(last.dir, "..", "tree.tar")
	_, err = output("git", append(git, "archive", "--output", archive, commit)...)
	if err != nil {
		return err
	}
	_, err = output("tar", "-xf", archive, "-C", last.dir)
	if err != nil {
		return err
	}
	return compile()
}

func compile() error {
	deployed, err := template.Load(last.dir)
	if err != nil {
		return err
	}
	args := []string{"-C", last.dir, "build", "-tags", "lambda.norpc", "-trimpath", "-buildvcs=false", "-ldflags", "-s -w", "-o", last.dist + "/.new/"}
	for _, f := range deployed.Functions {
		args = append(args, "./functions/"+f.Name)
	}
	_, err = output("go", args...)
	if err != nil {
		return err
	}
	for _, f := range deployed.Functions {
		err = errors.Join(os.Mkdir(filepath.Join(last.dist, f.Name), 0o700),
			os.Rename(filepath.Join(last.dist, ".new", f.Name), filepath.Join(last.dist, f.Name, "bootstrap")))
		if err != nil {
			return err
		}
	}
	return nil
}

// output runs a program, as the functions are built: for this machine, and without C.
func output(name string, args ...string) (string, error) {
	c := exec.Command(name, args...)
	c.Env = append(os.Environ(), "CGO_ENABLED=0")
	out, err := c.CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("%s: %w: %s", name, err, out)
	}
	return string(out), nil
}

const (
	alice = "5f0c1e5e-3b0a-4f0e-9a55-0d6a1c9e7b11"
	bob   = "0d8a2c52-7e0c-4f5b-8d6e-2b6f4a1c9e77"
)

// pair is this version and the last release on one table.
type pair struct {
	*stack.Stack
	t          *testing.T
	this, last version
}

// version is one of the two.
type version struct {
	*pair
	name, url string
}

// start starts both, with values of their variables.
func start(t *testing.T, this, before map[string]string) *pair {
	t.Helper()
	env := map[string]string{"PROVISION_BUDGET": "9s"} // also on a busy machine a list makes what is missing
	maps.Copy(env, this)
	s, _ := stacktest.Start(t, stack.Config{Env: env})
	url, err := s.Beside(stack.Version{Dir: last.dir, Dist: last.dist, Env: before})
	if err != nil {
		t.Fatal(err)
	}
	p := &pair{Stack: s, t: t}
	p.this, p.last = version{p, "this version", s.URL}, version{p, "the last release", url}
	return p
}

// eachWay runs a test once for each of the two to come first.
func eachWay(t *testing.T, test func(p *pair, one, other version)) { eachWayWith(t, nil, test) }

// eachWayWith is eachWay with values of this version's variables.
func eachWayWith(t *testing.T, this map[string]string, test func(p *pair, one, other version)) {
	t.Parallel()
	t.Run("the last release first", func(t *testing.T) {
		t.Parallel()
		p := start(t, this, nil)
		test(p, p.last, p.this)
	})
	t.Run("this version first", func(t *testing.T) {
		t.Parallel()
		p := start(t, this, nil)
		test(p, p.this, p.last)
	})
}

// answer is a response that was read.
type answer struct {
	status int
	header http.Header
	body   string
}

func (v version) send(method, path, token, body string) (answer, error) {
	req, err := http.NewRequest(method, v.url+path, strings.NewReader(body))
	if err != nil {
		return answer{}, err
	}
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return answer{}, err
	}
	defer res.Body.Close()
	data, err := io.ReadAll(res.Body)
	return answer{res.StatusCode, res.Header, string(data)}, err
}

// call sends a request, and fails the test unless the answer has that status.
func (v version) call(status int, method, path, token, body string) answer {
	v.t.Helper()
	a, err := v.send(method, path, token, body)
	if err != nil {
		v.t.Fatal(err)
	}
	if a.status != status {
		v.t.Fatalf("%s: %s %s is answered with %d %s", v.name, method, path, a.status, a.body)
	}
	return a
}

// decode reads a JSON answer.
func decode[T any](v version, a answer) T {
	v.t.Helper()
	var t T
	err := json.Unmarshal([]byte(a.body), &t)
	if err != nil {
		v.t.Fatalf("%s: %v: %s", v.name, err, a.body)
	}
	return t
}

// token is a user's access token, which both take.
func (p *pair) token(user string) string {
	p.t.Helper()
	a := p.this.call(http.StatusOK, "POST", "/local/token", "", fmt.Sprintf(`{"sub":%q}`, user))
	return decode[map[string]string](p.this, a)["access_token"]
}

// lists fails the test unless the user's list says that of the managed credential.
func (v version) lists(user, header string) {
	v.t.Helper()
	a := v.call(http.StatusOK, "GET", "/credentials", v.token(user), "")
	got, _, _ := strings.Cut(a.header.Get("Managed-Credentials"), ";") // what more one version says, the other may not
	if got != header {
		v.t.Errorf("%s lists %q, not %q", v.name, got, header)
	}
	has := strings.Contains(a.body, credential.ManagedID(agentmail.Name, user))
	if has != (header == ready) {
		v.t.Errorf("%s lists %s", v.name, a.body)
	}
}

const ready = "agent_mail=ready"

// resolved is what an executor gets.
type resolved struct {
	ID     string `json:"id"`
	APIKey string `json:"api_key"`
}

// resolves is what both hand out to an executor: the same, and a key that AgentMail takes.
func (p *pair) resolves(user string) resolved {
	p.t.Helper()
	var all [2]resolved
	for i, v := range []version{p.this, p.last} {
		body := fmt.Sprintf(`{"sub":%q,"provider":"agent_mail"}`, user)
		all[i] = decode[resolved](v, v.call(http.StatusOK, "POST", "/local/resolve", "", body))
	}
	_, _, accepted := p.AgentMail.Identify(all[0].APIKey)
	if all[0] != all[1] || !accepted {
		p.t.Errorf("they resolve %s and %s, and whether AgentMail takes it is %t", all[0].ID, all[1].ID, accepted)
	}
	return all[0]
}

// keys is how many keys AgentMail has of a user.
func (p *pair) keys(user string) int {
	pod, _ := p.AgentMail.Pod(user)
	return len(pod.Keys)
}

func (v version) reconcile() {
	v.t.Helper()
	v.call(http.StatusOK, "POST", "/local/reconcile", "", "")
}

// reconcileUntil lets time pass and rounds of reconcile run, until something is so.
func (v version) reconcileUntil(what string, is func() bool, users ...string) {
	v.t.Helper()
	for range 10 {
		for _, user := range users {
			stacktest.Later(v.t, v.Stack, user)
		}
		v.reconcile()
		if is() {
			return
		}
	}
	v.t.Errorf("after ten rounds of %s it is not so that %s", v.name, what)
}

// sound fails the test unless both find everything in order, also after whatever is due.
func (p *pair) sound(users ...string) {
	p.t.Helper()
	for _, v := range []version{p.last, p.this} {
		for _, user := range users {
			stacktest.Later(p.t, p.Stack, user)
		}
		v.reconcile()
	}
	for _, v := range []version{p.last, p.this} {
		a := v.call(http.StatusOK, "POST", "/local/operate", "", `{"command":"audit","provider":"agent_mail"}`)
		r := decode[managed.AuditReport](v, a)
		if len(r.Findings) != 0 || r.Next != "" || r.Stopped != "" {
			p.t.Errorf("%s audits: %s", v.name, a.body)
		}
	}
}

func TestWhatOneVersionMadeTheOtherHandsOut(t *testing.T) {
	eachWay(t, func(p *pair, one, other version) {
		one.lists(alice, ready)
		other.lists(alice, ready)
		first := p.resolves(alice)
		other.reconcile()
		one.lists(alice, ready)
		if p.resolves(alice) != first || len(p.AgentMail.Pods()) != 1 || p.keys(alice) != 1 {
			t.Errorf("AgentMail has %+v", p.AgentMail.Pods())
		}
		p.sound(alice)
	})
}

func TestBothVersionsAtOnceMakeOneKey(t *testing.T) {
	t.Parallel()
	p := start(t, nil, nil)
	token := p.token(alice)
	var all sync.WaitGroup
	for range 16 {
		for _, v := range []version{p.this, p.last} {
			all.Go(func() {
				a, err := v.send("GET", "/credentials", token, "")
				if err != nil || a.status != http.StatusOK {
					t.Errorf("%s: %v %d %s", v.name, err, a.status, a.body)
				}
			})
		}
	}
	all.Wait()
	if made := p.AgentMail.Pods(); len(made) != 1 || p.keys(alice) != 1 {
		t.Errorf("AgentMail has %+v", made)
	}
	p.resolves(alice)
	p.sound(alice)
}

func TestWhatOneVersionLeftUnfinishedTheOtherFinishes(t *testing.T) {
	eachWay(t, func(p *pair, one, other version) {
		// Nobody knows the key that was made.
		lost := p.AgentMail.Inject(fault.Rule{Op: fake.CreateKey, About: alice, Fault: fault.LoseAnswer()})
		failed := p.AgentMail.Inject(fault.Rule{Op: fake.CreateKey, About: bob, Fault: fake.Status(http.StatusServiceUnavailable)})
		for _, user := range []string{alice, bob} {
			one.call(http.StatusOK, "GET", "/credentials", p.token(user), "")
		}
		if p.AgentMail.Hits(lost) == 0 || p.AgentMail.Hits(failed) == 0 {
			t.Error("the faults did not strike")
		}
		p.AgentMail.ClearFaults()
		settled := func() bool { return p.keys(alice) == 1 && p.keys(bob) == 1 }
		other.reconcileUntil("each has one key", settled, alice, bob)
		for _, user := range []string{alice, bob} {
			one.lists(user, ready)
			p.resolves(user)
		}
		p.sound(alice, bob)
		if !settled() {
			t.Errorf("AgentMail has %+v", p.AgentMail.Pods())
		}
	})
}

func TestOwnCredentialsPassBetweenVersions(t *testing.T) {
	eachWay(t, func(p *pair, one, other version) {
		token := p.token(alice)
		made := one.call(http.StatusCreated, "POST", "/github/credentials", token, `{"type":"api_key","title":"one","api_key":"s3cret"}`)
		path := "/github/credentials/" + decode[credential.Metadata](one, made).ID
		resolve := fmt.Sprintf(`{"sub":%q,"provider":"github","credential_id":%q}`, alice, filepath.Base(path))
		holds := func(secret string) {
			t.Helper()
			for _, v := range []version{one, other} {
				v.call(http.StatusOK, "GET", path, token, "")
				a := v.call(http.StatusOK, "POST", "/local/resolve", "", resolve)
				if !strings.Contains(a.body, `"api_key":"`+secret+`"`) {
					t.Errorf("%s resolves %s", v.name, a.body)
				}
			}
		}
		holds("s3cret")
		other.call(http.StatusOK, "PUT", path, token, `{"title":"two","api_key":"n3w"}`)
		holds("n3w")
		one.call(http.StatusOK, "PUT", path, token, `{"title":"three"}`)
		holds("n3w")
		other.call(http.StatusOK, "DELETE", path, token, "")
		for _, v := range []version{one, other} {
			v.call(http.StatusNotFound, "GET", path, token, "")
		}
	})
}

func TestADeletionPassesBetweenVersions(t *testing.T) {
	eachWay(t, func(p *pair, one, other version) {
		one.lists(alice, ready)
		other.lists(bob, ready)
		for _, user := range []string{alice, bob} {
			other.call(http.StatusCreated, "POST", "/github/credentials", p.token(user), `{"type":"api_key","api_key":"s3cret"}`)
		}
		// AgentMail refuses to delete alice's pod, so that the other one has to go on.
		refused := p.AgentMail.Inject(fault.Rule{Op: fake.DeletePod, About: alice, Fault: fake.Status(http.StatusServiceUnavailable)})
		one.call(http.StatusAccepted, "DELETE", "/account", p.token(alice), "")
		one.call(http.StatusNoContent, "DELETE", "/account", p.token(bob), "")
		if p.AgentMail.Hits(refused) == 0 {
			t.Error("the fault did not strike")
		}
		p.AgentMail.ClearFaults()
		gone := func() bool {
			return len(p.AgentMail.Pods()) == 0 && slices.Equal(stacktest.Items(t, p.Stack, alice), []string{"ACCOUNT"}) &&
				slices.Equal(stacktest.Items(t, p.Stack, bob), []string{"ACCOUNT"})
		}
		other.reconcileUntil("nothing is left but two tombstones", gone, alice, bob)
		for _, v := range []version{one, other} {
			for _, user := range []string{alice, bob} {
				v.call(http.StatusUnauthorized, "GET", "/credentials", p.token(user), "")
				v.call(http.StatusUnauthorized, "POST", "/github/credentials", p.token(user), `{"type":"api_key","api_key":"s3cret"}`)
				v.call(http.StatusGone, "POST", "/local/resolve", "", fmt.Sprintf(`{"sub":%q,"provider":"agent_mail"}`, user))
			}
		}
		p.sound(alice, bob)
		if !gone() {
			t.Errorf("left are %+v", p.AgentMail.Pods())
		}
	})
}

// rotate asks this version for another key of alice's; the last release does not know how.
func (p *pair) rotate(overlap string) {
	p.t.Helper()
	p.this.call(http.StatusOK, "POST", "/local/operate", "",
		fmt.Sprintf(`{"command":"rotate","user_id":%q,"provider":"agent_mail","overlap":%q,"by":"t","reason":"t"}`, alice, overlap))
}

// The last release may end the overlap early; the key that is stored serves all the while.
func TestAReplacedKeyRetiresUnderEitherVersion(t *testing.T) {
	eachWay(t, func(p *pair, one, other version) {
		one.lists(alice, ready)
		before := p.resolves(alice)
		p.rotate("10m")
		p.this.reconcile()
		now := p.replaced(alice, before)
		other.lists(alice, ready)
		other.reconcileUntil("one key is left", func() bool { return p.keys(alice) == 1 }, alice)
		if p.resolves(alice) != now {
			t.Error("the key that was stored is not the one that is handed out")
		}
		p.sound(alice)
		if p.resolves(alice) != now || p.keys(alice) != 1 {
			t.Errorf("AgentMail has %d keys", p.keys(alice))
		}
	})
}

// A round of the last release takes the wish for another key for a check of the one that is there.
// The wish may be overlooked by that, and the operator asks again; the key is not lost.
func TestAWishForAnotherKeyHarmsNothingUnderTheLastRelease(t *testing.T) {
	t.Parallel()
	p := start(t, nil, nil)
	p.last.lists(alice, ready)
	before := p.resolves(alice)
	p.rotate("10m")
	p.last.reconcile()
	p.last.lists(alice, ready)
	p.resolves(alice)
	p.rotate("0s")
	replaced := func() bool { return p.keys(alice) == 1 && p.resolves(alice).APIKey != before.APIKey }
	p.this.reconcileUntil("another key took the place of the first", replaced, alice)
	p.sound(alice)
	if !replaced() {
		t.Errorf("AgentMail has %d keys", p.keys(alice))
	}
}

func TestAnAccountIsDeletedByEitherVersionWhileAKeyRetires(t *testing.T) {
	eachWay(t, func(p *pair, one, other version) {
		other.lists(alice, ready)
		p.rotate("10m")
		p.this.reconcile()
		if p.keys(alice) != 2 {
			t.Errorf("AgentMail has %d keys", p.keys(alice))
		}
		one.call(http.StatusNoContent, "DELETE", "/account", p.token(alice), "")
		if len(p.AgentMail.Pods()) != 0 {
			t.Errorf("AgentMail has %+v", p.AgentMail.Pods())
		}
		p.sound(alice)
		if left := stacktest.Items(t, p.Stack, alice); !slices.Equal(left, []string{"ACCOUNT"}) {
			t.Errorf("left are %v", left)
		}
	})
}

// The key is in use in both all the while; the last release may end the overlap early.
func TestAKeyThatIsTooOldIsReplacedBesideTheLastRelease(t *testing.T) {
	eachWayWith(t, map[string]string{"MAX_KEY_AGE": "24h"}, func(p *pair, one, other version) {
		one.lists(alice, ready)
		before := p.resolves(alice)
		other.lists(bob, ready) // whose key is young
		stacktest.LaterBy(p.t, p.Stack, alice, 24*time.Hour)
		p.this.call(http.StatusOK, "POST", "/local/operate", "", `{"command":"audit_due"}`)
		p.this.reconcile()
		if p.keys(bob) != 1 {
			p.t.Errorf("a young key is replaced: AgentMail has %d", p.keys(bob))
		}
		now := p.replaced(alice, before)
		other.lists(alice, ready)
		stacktest.LaterBy(p.t, p.Stack, alice, 7*time.Hour)
		other.reconcileUntil("one key is left", func() bool { return p.keys(alice) == 1 }, alice)
		p.sound(alice, bob)
		if p.resolves(alice) != now || p.keys(alice) != 1 {
			p.t.Errorf("AgentMail has %d keys", p.keys(alice))
		}
	})
}

func TestAKeyThatExpiresIsReplacedBesideTheLastRelease(t *testing.T) {
	t.Parallel()
	p := start(t, nil, nil)
	before := p.expires()
	p.last.lists(alice, ready)
	p.last.reconcile() // before it is time
	stacktest.LaterBy(t, p.Stack, alice, 3*time.Hour+30*time.Minute)
	p.this.reconcile()
	now := p.replaced(alice, before)
	p.last.lists(alice, ready)
	stacktest.LaterBy(t, p.Stack, alice, time.Hour)
	p.last.reconcileUntil("one key is left", func() bool { return p.keys(alice) == 1 }, alice)
	p.sound(alice)
	if p.resolves(alice) != now || p.keys(alice) != 1 {
		t.Errorf("AgentMail has %d keys", p.keys(alice))
	}
}

// A round of the last release takes the plan to replace a key for a check of it. Then the key is
// replaced when an executor is refused with it.
func TestAPlanToReplaceAKeyHarmsNothingUnderTheLastRelease(t *testing.T) {
	t.Parallel()
	p := start(t, nil, nil)
	before := p.expires()
	stacktest.LaterBy(t, p.Stack, alice, 3*time.Hour+30*time.Minute)
	p.last.reconcile()
	if p.resolves(alice) != before {
		t.Error("the key was replaced by a version that does not know how")
	}
	p.this.call(http.StatusAccepted, "POST", "/local/resolve", "", fmt.Sprintf(`{"sub":%q,"provider":"agent_mail","rejected_attempt":1}`, alice))
	p.this.reconcileUntil("another key took the place of the first", func() bool { return p.resolves(alice).APIKey != before.APIKey }, alice)
	stacktest.LaterBy(t, p.Stack, alice, 24*time.Hour)
	p.sound(alice)
	if p.keys(alice) != 1 {
		t.Errorf("AgentMail has %d keys", p.keys(alice))
	}
}

// expires has this version make alice a key that lives for four hours, as later ones do not.
func (p *pair) expires() resolved {
	p.t.Helper()
	p.AgentMail.ExpireOrgKey(fake.OrgKey, time.Now().Add(4*time.Hour))
	p.this.lists(alice, ready)
	p.AgentMail.ExpireOrgKey(fake.OrgKey, time.Now().Add(1000*time.Hour))
	return p.resolves(alice)
}

// replaced fails the test unless the user has another key under the same id, beside the one before.
func (p *pair) replaced(user string, before resolved) resolved {
	p.t.Helper()
	now := p.resolves(user)
	if now.ID != before.ID || now.APIKey == before.APIKey || p.keys(user) != 2 {
		p.t.Errorf("%s became %s, and AgentMail has %d keys", before.ID, now.ID, p.keys(user))
	}
	return now
}

// In this version's mode on_demand who asks gets it, while the last release still makes it for
// everybody.
func TestWhatIsMadeOnDemandTheLastReleaseHandsOut(t *testing.T) {
	t.Parallel()
	p := start(t, map[string]string{"MANAGED_PROVIDERS": `{"agent_mail":{"mode":"on_demand"}}`}, map[string]string{"MANAGED_PROVIDERS": ""})
	p.this.lists(alice, "agent_mail=offered")
	p.this.call(http.StatusOK, "PUT", "/agent_mail/managed", p.token(alice), "")
	p.last.lists(alice, ready)
	p.resolves(alice)
	p.last.lists(bob, ready)
	p.this.lists(bob, ready)
	p.resolves(bob)
	p.sound(alice, bob)
	for user, by := range map[string]version{alice: p.last, bob: p.this} {
		by.call(http.StatusNoContent, "DELETE", "/account", p.token(user), "")
	}
	p.sound(alice, bob)
	if left := p.AgentMail.Pods(); len(left) != 0 {
		t.Errorf("AgentMail has %+v", left)
	}
}
