// Package processes_test kills the built functions with SIGKILL, at random, freezes them, and
// suspends the machine under them, while users list their credentials and accounts are deleted.
// Then it lets reconcile finish, and looks from outside whether everybody has what is theirs and
// nothing is left of who has gone: through the API, at AgentMail, in the user pool, and in the
// table.
package processes_test

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awsdynamodb "github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"

	"managed-credentials/shared/local/fault"
	"managed-credentials/shared/local/stack"
	"managed-credentials/shared/local/stack/stacktest"
	"managed-credentials/shared/local/standin"
	"managed-credentials/shared/local/template"
	"managed-credentials/shared/proof/suspended"
	"managed-credentials/shared/provider"
	"managed-credentials/shared/provider/agentmail"
	"managed-credentials/shared/provider/agentmail/fake"
)

var chaos = flag.Duration("chaos", 10*time.Second, "how long functions are killed, and others are got at")

func TestMain(m *testing.M) { os.Exit(stacktest.Main(m, suspended.Build)) }

// service is a stack on a machine that can be suspended, and a client of it.
type service struct {
	*stack.Stack
	t       *testing.T
	log     *stacktest.Log
	machine *suspended.Machine

	underway atomic.Int64 // calls of the functions that have arrived and are not answered
	thawed   atomic.Int64 // when functions were last let go on, in Unix nanoseconds
}

// start starts a service with all providers, whose functions have no more memory than on AWS.
func start(t *testing.T, env map[string]string) *service {
	t.Helper()
	machine, err := suspended.New(stacktest.Dist, t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(machine.Close)
	s := &service{t: t, machine: machine}
	s.Stack, s.log = stacktest.Start(t, stack.Config{Dist: machine.Dist, Now: machine.Now, Env: env, AllProviders: true, AllAuto: true, Faults: true, LimitMemory: true})
	for _, proxy := range []*fault.Proxy{
		s.Faults.DynamoDB, s.Faults.KMS, s.Faults.SecretsManager, s.Faults.Cognito, s.Faults.SQS, s.Faults.AgentMail,
	} {
		proxy.SetHook(s.arrives)
	}
	for _, proxy := range s.Faults.Fakes {
		proxy.SetHook(s.arrivesSlowly)
	}
	return s
}

// grace is how long after a process goes on it may send what it meant to send before it was
// stopped: it had looked at the clock, and not yet sent. The search through all crash points does
// not leave that out.
const grace = 500 * time.Millisecond

// arrives counts a call while it is under way. A create that its sender may have been stopped with
// is lost: that it is sent in time is what the protocol assumes.
func (s *service) arrives(c *fault.Call) fault.Fault {
	s.underway.Add(1)
	return func(ctx context.Context, c *fault.Call) (*fault.Answer, error) {
		defer s.underway.Add(-1)
		create := strings.HasPrefix(c.Op, "POST /") // AWS's calls have names
		if create && time.Since(time.Unix(0, s.thawed.Load())) < grace {
			return nil, nil
		}
		return c.Forward(context.WithoutCancel(ctx))
	}
}

// arrivesSlowly is arrives at a third party that takes a while to make and to delete something:
// more moments in which its caller can be killed.
func (s *service) arrivesSlowly(c *fault.Call) fault.Fault {
	if c.Method == http.MethodGet {
		return s.arrives(c)
	}
	return fault.After(fault.For(slow), s.arrives(c))
}

// slow is how long third parties take to make something, and to delete it.
const slow = 50 * time.Millisecond

// freeze stops a function's instances for a while. Others go on.
func (s *service) freeze(function string, d time.Duration) {
	s.Host.Freeze(function, func() {
		time.Sleep(d)
		s.thawed.Store(time.Now().UnixNano())
	})
}

// suspend suspends the machine for so long. What was sent before that has its effect before.
func (s *service) suspend(d time.Duration) {
	s.Host.Suspend(func() {
		s.thawed.Store(time.Now().Add(time.Minute).UnixNano()) // whatever arrives while it is suspended was sent before
		s.pass(d)
		s.thawed.Store(time.Now().UnixNano())
	})
}

// pass lets time pass on the machine, once nothing is under way.
func (s *service) pass(d time.Duration) {
	for s.underway.Load() > 0 {
		time.Sleep(time.Millisecond)
	}
	err := s.machine.Suspend(d)
	if err != nil {
		s.t.Error(err)
	}
}

// call sends a request and returns the answer, whatever it is; a status of 0 is none.
func (s *service) call(method, path, token, body string) (status int, header http.Header, answer string) {
	req, err := http.NewRequest(method, s.URL+path, strings.NewReader(body))
	if err != nil {
		s.t.Error(err)
		return 0, nil, ""
	}
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, nil, ""
	}
	defer func() { _ = resp.Body.Close() }()
	read, _ := io.ReadAll(resp.Body)
	return resp.StatusCode, resp.Header, string(read)
}

func (s *service) token(user string) string {
	_, _, body := s.call("POST", "/local/token", "", `{"sub":"`+user+`"}`)
	var answer struct {
		AccessToken string `json:"access_token"`
	}
	err := json.Unmarshal([]byte(body), &answer)
	if err != nil {
		s.t.Fatal(err)
	}
	return answer.AccessToken
}

// items are the table's.
func (s *service) items() []map[string]types.AttributeValue {
	var all []map[string]types.AttributeValue
	pages := awsdynamodb.NewScanPaginator(s.DynamoDB, &awsdynamodb.ScanInput{TableName: &s.Table, ConsistentRead: aws.Bool(true)})
	for pages.HasMorePages() {
		page, err := pages.NextPage(context.Background())
		if err != nil {
			s.t.Fatal(err)
		}
		all = append(all, page.Items...)
	}
	return all
}

func text(item map[string]types.AttributeValue, name string) string {
	value, _ := item[name].(*types.AttributeValueMemberS)
	if value == nil {
		return ""
	}
	return value.Value
}

func TestKilledAtAnyMomentNothingIsDoubledAndNothingIsLeft(t *testing.T) {
	t.Parallel()
	s := start(t, map[string]string{"LEASE": "10s", "PROVISION_BUDGET": "2s"})
	for _, op := range []string{fake.CreatePod, fake.CreateKey, fake.DeleteKey, fake.DeletePod} {
		s.AgentMail.Inject(fault.Rule{Op: op, Fault: fault.After(fault.For(slow), nil)})
	}
	stay, leave := map[string]string{}, map[string]string{}
	s.AgentMail.SetSwitches(fake.Switches{CallsPerSecond: 8, Burst: 4})
	killed, suspensions := s.storm(*chaos, stay, leave)
	s.AgentMail.ClearFaults()
	limited := s.AgentMail.Limited()
	if limited == 0 {
		t.Error("AgentMail's limit was never met")
	}
	s.AgentMail.SetSwitches(fake.Switches{})
	s.settle(leave)
	s.check(stay, leave)
	fmt.Printf("real processes: %d killed, the machine suspended %d times, and %d calls beyond AgentMail's limit, while %d users listed and "+
		"%d accounts were deleted\n", killed, suspensions, limited, len(stay), len(leave))
}

// check looks at what is left in the end.
func (s *service) check(stay, leave map[string]string) {
	for user, token := range stay {
		s.checkOne(user, token)
	}
	for user, token := range leave {
		s.checkNone(user, token)
	}
	deployed, err := template.Load(".")
	if err != nil {
		s.t.Fatal(err)
	}
	for _, f := range deployed.Functions {
		if n := s.Host.OutOfMemory(f.Name); n > 0 {
			s.t.Errorf("%d instances of %s held more memory than they may", n, f.Name)
		}
	}
	forms := []*regexp.Regexp{regexp.MustCompile(`am_[a-z]{2}_[0-9a-f]{64}`)}
	for _, f := range s.Fakes {
		forms = append(forms, f.Secrets)
	}
	for _, form := range forms {
		if form.MatchString(s.log.String()) {
			s.t.Errorf("I7: a secret was logged, of the form %s", form)
		}
	}
}

// storm lets users come and go, and kills, freezes and suspends what serves them, for that long. It
// notes the tokens of those who stay and of those who leave.
func (s *service) storm(d time.Duration, stay, leave map[string]string) (killed, suspensions int) {
	end := time.Now().Add(d)
	var work sync.WaitGroup
	work.Go(func() {
		for n := 1; time.Now().Before(end); n++ {
			time.Sleep(time.Duration(rand.IntN(250)) * time.Millisecond)
			function := []string{"list-with-provision", "user-cleanup", "reconcile"}[rand.IntN(3)]
			switch {
			case n%24 == 12: // some are frozen, and the machine is suspended, so that others take over before they go on
				work.Go(func() { s.freeze(function, 3*time.Second) })
				fallthrough
			case n%24 == 0:
				s.suspend(time.Duration(5+rand.IntN(60)) * time.Second)
				suspensions++
			case n%8 == 0: // as Linux does where memory runs out
				if s.Host.KillLargest() {
					killed++
				}
			default:
				killed += s.Host.Kill(function)
			}
		}
	})
	work.Go(func() {
		for time.Now().Before(end) {
			s.call("POST", "/local/reconcile", "", "")
			time.Sleep(500 * time.Millisecond)
		}
	})
	for i := 0; time.Now().Before(end); i++ {
		user := fmt.Sprintf("user-%03d", i)
		token := s.token(user)
		going := i%2 == 0
		if going {
			leave[user] = token
		} else {
			stay[user] = token
		}
		for range 2 {
			work.Go(func() { s.call("GET", "/credentials", token, "") })
		}
		if going {
			work.Go(func() {
				time.Sleep(time.Duration(rand.IntN(1000)) * time.Millisecond)
				s.call("DELETE", "/account", token, "")
			})
		}
		time.Sleep(200 * time.Millisecond)
	}
	work.Wait()
	return killed, suspensions
}

// settle repeats deletions that did not get through, and reconciles until nothing is due.
func (s *service) settle(leave map[string]string) {
	for user, token := range leave {
		for status := 0; status != http.StatusNoContent && status != http.StatusAccepted; {
			status, _, _ = s.call("DELETE", "/account", token, "")
			if s.t.Context().Err() != nil {
				s.t.Fatalf("the account of %s cannot be deleted", user)
			}
		}
	}
	deadline := time.Now().Add(3 * time.Minute)
	for due := s.due(); len(due) > 0; due = s.due() {
		if time.Now().After(deadline) {
			s.t.Fatalf("still due: %v\n%s", due, s.log)
		}
		for _, item := range due {
			s.hasten(item)
		}
		s.call("POST", "/local/reconcile", "", "")
		s.pass(10 * time.Second)
	}
}

// due are the items with work left.
func (s *service) due() []map[string]types.AttributeValue {
	return slices.DeleteFunc(s.items(), func(item map[string]types.AttributeValue) bool { return item["due_at"] == nil })
}

// hasten has an item be due now that is due later than any lease ends. What failed often in the
// storm waits for longer than this test may take.
func (s *service) hasten(item map[string]types.AttributeValue) {
	later := item["due_at"].(*types.AttributeValueMemberN)
	at, err := strconv.ParseInt(later.Value, 10, 64)
	if err != nil {
		s.t.Fatal(err)
	}
	if time.UnixMilli(at).Before(s.machine.Now().Add(30 * time.Second)) {
		return
	}
	_, err = s.DynamoDB.UpdateItem(context.Background(), &awsdynamodb.UpdateItemInput{
		TableName:           &s.Table,
		Key:                 map[string]types.AttributeValue{"pk": item["pk"], "sk": item["sk"]},
		UpdateExpression:    aws.String("SET due_at = :now"),
		ConditionExpression: aws.String("due_at = :later"),
		ExpressionAttributeValues: map[string]types.AttributeValue{
			":later": later,
			":now":   &types.AttributeValueMemberN{Value: strconv.FormatInt(s.machine.Now().UnixMilli(), 10)},
		},
	})
	var worked *types.ConditionalCheckFailedException
	if err != nil && !errors.As(err, &worked) {
		s.t.Fatal(err)
	}
}

func (s *service) checkOne(user, token string) {
	if !s.inPool(user) {
		s.t.Errorf("%s lives, and is not in the user pool any more", user)
	}
	status, header, _ := s.call("GET", "/credentials", token, "")
	stand := strings.Split(header.Get("Managed-Credentials"), ", ")
	for i := range stand {
		stand[i], _, _ = strings.Cut(stand[i], ";") // what the user may have done with it
	}
	for _, provider := range provider.Names() {
		if status != http.StatusOK || !slices.Contains(stand, provider+"=ready") {
			s.t.Errorf("%s at %s: %d, %v", user, provider, status, header)
		}
	}
	for name, f := range s.Fakes {
		keys := f.KeysOf(user)
		keyID, ok := f.Identify(s.resolve(user, name))
		if len(keys) != 1 || !ok || keyID != keys[0].ID {
			s.t.Errorf("I1: %s has the keys %+v at %s, and the stored one is %q", user, keys, f.Title, keyID)
		}
	}
	pods := 0
	for _, pod := range s.AgentMail.Pods() {
		if pod.ClientID != user {
			continue
		}
		pods++
		if len(pod.Keys) != 1 {
			s.t.Errorf("I1: %s has the keys %+v", user, pod.Keys)
			continue
		}
		podID, keyID, ok := s.AgentMail.Identify(s.resolve(user, agentmail.Name))
		if !ok || podID != pod.ID || keyID != pod.Keys[0].ID {
			s.t.Errorf("I1: the key of %s is not the one that AgentMail lists", user)
		}
	}
	if pods != 1 {
		s.t.Errorf("I1: %s has %d pods", user, pods)
	}
}

// resolve is the user's key at a provider, as an executor gets it; "" if there is none.
func (s *service) resolve(user, provider string) string {
	_, _, resolved := s.call("POST", "/local/resolve", "", fmt.Sprintf(`{"sub":%q,"provider":%q}`, user, provider))
	var answer struct {
		Key string `json:"api_key"`
	}
	_ = json.Unmarshal([]byte(resolved), &answer)
	return answer.Key
}

// inPool reports whether Cognito has the user.
func (s *service) inPool(user string) bool {
	return slices.ContainsFunc(s.Cognito.Users(), func(u standin.User) bool { return u.Sub == user })
}

func (s *service) checkNone(user, token string) {
	if s.inPool(user) {
		s.t.Errorf("I2: %s is still in the user pool", user)
	}
	status, _, _ := s.call("GET", "/credentials", token, "")
	if status != http.StatusUnauthorized {
		s.t.Errorf("I5: %s, who is deleted, lists with %d", user, status)
	}
	for _, pod := range s.AgentMail.Pods() {
		if pod.ClientID == user {
			s.t.Errorf("I2: %s has left %+v", user, pod)
		}
	}
	for _, f := range s.Fakes {
		if keys := f.KeysOf(user); len(keys) > 0 {
			s.t.Errorf("I2: %s has left %+v at %s", user, keys, f.Title)
		}
	}
	for _, item := range s.items() {
		if text(item, "pk") == "USER#"+user && text(item, "sk") != "ACCOUNT" {
			s.t.Errorf("I2: %s has left %s", user, text(item, "sk"))
		}
	}
}
