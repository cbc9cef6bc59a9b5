package sim_test

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	kmstypes "github.com/aws/aws-sdk-go-v2/service/kms/types"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager"
	secretstypes "github.com/aws/aws-sdk-go-v2/service/secretsmanager/types"
	"github.com/aws/smithy-go"
	"github.com/google/uuid"

	"managed-credentials/shared/credential"
	"managed-credentials/shared/orgkey"
	"managed-credentials/shared/provider/agentmail"
)

// service is what a call is sent to.
type service int

const (
	dynamoDB service = iota
	keyService
	secretService
	poolService
	mailService
	routerService
	accountsService
	profilesService
)

// isParty reports whether it is a third party at which managed credentials are made.
func (s service) isParty() bool { return s >= mailService }

// call is one call to the outside.
type call struct {
	p       *process
	ctx     context.Context
	service service
	op      string
	// about is what it is about, without anything that is drawn anew each time; nil for nothing.
	// subject is how to ask for it.
	about func() string
	text  *string // about's answer
	user  string
	// write says that it changes something; create that it makes something at a third party.
	write, create, transaction bool
	// unfenced says that nothing keeps it from taking effect when it is long out of date.
	unfenced bool
	do       func() (any, error)
	// part does a part of it; nil where there are none.
	part   func() (any, error)
	sent   time.Time
	answer answer
	done   chan struct{} // has one in it once there is an answer
	// answered is the player's, and says the same.
	answered bool
	before   func() // looks at it as it is sent
	body     []byte
	caller   caller
	nth      int           // of this operation, among its process's
	own      time.Duration // a few nanoseconds, which no other call has
	pause    time.Duration // it is no call, but a pause of that length
	also     *call         // a pause like it, which ends with it
}

// subject is what the call is about, as it was when that was first asked.
func (c *call) subject() string {
	if c.text == nil {
		text := ""
		if c.about != nil {
			text = c.about()
		}
		c.text = &text
	}
	return *c.text
}

// who is whose a call is: the task's that made it, and the slot's under whose claim that was.
type who struct {
	task int
	caller
}

func (c *call) who() who {
	task, _ := c.ctx.Value(taskKey{}).(int)
	return who{task, callerIn(c.ctx)}
}

func (a who) compare(b who) int {
	return cmp.Or(a.task-b.task, strings.Compare(a.provider, b.provider), strings.Compare(a.user, b.user), cmp.Compare(a.attempt, b.attempt))
}

// id names the call: the process, the operation and how many of those it had made.
func (c *call) id() string { return strconv.Itoa(c.p.number) + " " + c.op + " " + strconv.Itoa(c.nth) }

// hash is that of the id, without making it.
func (c *call) hash() uint64 {
	var digits [20]byte
	h := hashing(fnvOffset, strconv.AppendInt(digits[:0], int64(c.p.number), 10))
	h = hashing(hashing(hashing(h, " "), c.op), " ")
	return hashing(h, strconv.AppendInt(digits[:0], int64(c.nth), 10))
}

type answer struct {
	value any
	err   error
}

// call sends a call, and waits for its answer or for ctx to end.
func (p *process) call(ctx context.Context, c *call) (any, error) {
	if p.dead.Load() {
		return nil, errDead
	}
	if ctx.Err() != nil {
		return nil, ctx.Err()
	}
	p.w.shake()
	c.p, c.ctx, c.done = p, ctx, make(chan struct{}, 1)
	p.w.arrives(c)
	select {
	case <-c.done:
		return c.answer.value, c.answer.err
	case <-ctx.Done():
	case <-p.ctx.Done():
	}
	select {
	case <-c.done:
		return c.answer.value, c.answer.err
	default:
	}
	if p.dead.Load() {
		return nil, errDead
	}
	return nil, ctx.Err()
}

// arrives has the player take in a call.
func (w *world) arrives(c *call) {
	w.mu.Lock()
	w.arrivals = append(w.arrivals, c)
	w.mu.Unlock()
	w.signal()
}

// inOrder is the order of calls that are made at once.
func inOrder(a, b *call) int {
	order := cmp.Or(a.p.number-b.p.number, strings.Compare(a.op, b.op))
	if order == 0 {
		order = strings.Compare(a.subject(), b.subject())
	}
	if order == 0 {
		order = a.who().compare(b.who())
	}
	return order
}

// take takes in the calls that were made since, in the order of what they are and whose. Those of
// which nobody can tell one from the other are of workers that began the same thing at once, so
// that it does not matter which of them comes first.
func (w *world) take() {
	w.mu.Lock()
	arrivals := w.arrivals
	w.arrivals, w.taken = w.taken[:0], arrivals
	w.mu.Unlock()
	slices.SortStableFunc(arrivals, inOrder)
	for i, c := range arrivals {
		if i > 0 && c.pausesLike(arrivals[i-1]) {
			continue // it is that one's also
		}
		for _, like := range arrivals[i+1:] {
			if !c.pausesLike(like) {
				break
			}
			like.also, c.also = c.also, like
		}
		w.arrive(c)
	}
	for _, p := range w.processes {
		w.turns(p)
	}
}

// pausesLike reports whether the two are pauses that end at once, of which nobody can tell one from
// the other.
func (c *call) pausesLike(other *call) bool {
	return c.pause > 0 && c.p == other.p && c.pause == other.pause && c.subject() == other.subject() && c.who() == other.who()
}

// arrive says what becomes of a call, and when.
func (w *world) arrive(c *call) {
	switch c.op {
	case turn:
		c.p.waiting = append(c.p.waiting, c)
		return
	case turnOver:
		c.p.turnTaken = false
		return
	}
	if c.pause > 0 {
		if w.heard != unheard {
			w.note("%s pauses for %s", c.p.name(), c.subject())
		}
		w.at(w.now().Add(c.pause), func() {
			for each := c; each != nil; each = each.also {
				w.reply(each, answer{})
			}
		})
		return
	}
	w.calls++
	c.own = time.Duration(w.calls)
	c.sent = w.now()
	c.p.counts[c.op]++
	c.nth = c.p.counts[c.op]
	if c.before != nil {
		c.before()
	}
	w.histories.sent(c)
	w.dice.Seed(w.seed, c.hash())
	way := w.way(c, w.rolls)
	if w.heard != unheard {
		with := ""
		if way.name != "" {
			with = ": " + way.name
		}
		w.note("%s sends %s %s%s", c.p.name(), c.op, c.subject(), with)
	}
	if way.name != "" {
		if !w.outOfReach(c.service) {
			w.struck = append(w.struck, c.id())
		}
		if c.service == dynamoDB {
			w.mu.Lock()
			c.p.trouble = w.now()
			w.mu.Unlock()
		}
	}
	at := w.now().Add(way.delay + c.own)
	if c.p.frozen.After(at) {
		at = c.p.frozen.Add(way.delay + c.own)
	}
	if way.effect == nil {
		way.effect = c.do
	}
	w.outside(at, func() { w.happen(c, way) })
	if way.again > 0 {
		w.outside(at.Add(way.again), func() { w.effect(c, c.do, "once more") })
	}
}

// way is what becomes of a call.
type way struct {
	name   string
	delay  time.Duration // until it takes effect
	effect func() (any, error)
	none   bool // it has no effect
	// answer is what is said in place of the true answer; silent says that nothing is.
	answer *answer
	silent bool
	wait   time.Duration // from the effect to the answer
	again  time.Duration // until it takes effect once more
}

// happen lets a call take effect, and answers it.
func (w *world) happen(c *call, way way) {
	a := answer{}
	overtaken := c.create && w.now().Sub(c.sent) >= effectTime
	switch {
	case way.none:
	case overtaken:
		if w.heard != unheard {
			w.note("%s %s never arrives", c.op, c.subject())
		}
		way.silent = true
	default:
		a = w.effect(c, way.effect, "")
	}
	if way.answer != nil {
		a = *way.answer
	}
	if way.silent {
		return
	}
	at := w.now().Add(way.wait)
	if c.p.frozen.After(at) {
		at = c.p.frozen.Add(c.own)
	}
	if at.After(w.now()) {
		w.at(at, func() { w.reply(c, a) })
		return
	}
	w.reply(c, a)
}

// reply answers a call, unless it was answered before.
func (w *world) reply(c *call, a answer) {
	if c.answered {
		return
	}
	c.answered, c.answer = true, a
	c.done <- struct{}{}
}

func (w *world) effect(c *call, do func() (any, error), how string) answer {
	value, err := w.watch(c, do)
	w.histories.happened(c, value, err)
	if w.heard != unheard {
		w.note("%s %s of %s %s: %s", c.op, c.subject(), c.p.name(), how, outcome(value, err))
	}
	return answer{value, err}
}

func outcome(value any, err error) string {
	var api smithy.APIError
	r, isAnswer := value.(*http.Response)
	switch {
	case errors.As(err, &api):
		return api.ErrorCode()
	case err != nil:
		return err.Error()
	case isAnswer:
		return fmt.Sprintf("%d %s", r.StatusCode, http.StatusText(r.StatusCode))
	default:
		return "done"
	}
}

var errConnection = errors.New("the connection was lost")

// retried sends a call as AWS's SDK does: three times at most, where it was throttled, failed, or
// its answer was lost.
func retried[T any](ctx context.Context, p *process, make func() *call) (T, error) {
	var none T
	pause := 20 * time.Millisecond
	for try := 1; ; try++ {
		value, err := p.call(ctx, make())
		if err == nil {
			if value == nil {
				return none, nil
			}
			return value.(T), nil
		}
		if try == 3 || ctx.Err() != nil || !repeatable(err) {
			return none, err
		}
		err = p.wait(ctx, pause)
		if err != nil {
			return none, err
		}
		pause *= 2
	}
}

func repeatable(err error) bool {
	var api smithy.APIError
	if errors.Is(err, errConnection) {
		return true
	}
	return errors.As(err, &api) && (api.ErrorCode() == "ProvisionedThroughputExceededException" || api.ErrorCode() == "ThrottlingException" ||
		api.ErrorFault() == smithy.FaultServer)
}

// db is DynamoDB as a process reaches it.
type db struct{ p *process }

func userOf(pk string) string { return strings.TrimPrefix(pk, "USER#") }

func textOf(v types.AttributeValue) string {
	s, _ := v.(*types.AttributeValueMemberS)
	if s == nil {
		return ""
	}
	return s.Value
}

// hidden are the values that are drawn anew each time, or have in them what is.
var hidden = map[string]bool{
	":owner": true, ":mine": true, ":was_owner": true, ":secret": true, ":key": true, ":resource": true, ":hint": true, "hint": true,
	"secret": true, "resource_id": true, "key_id": true, ":retiring": true, "retiring_key_id": true, ":progress": true, "progress": true,
}

// textOfAll is a text of values, of which none is drawn.
func textOfAll(values map[string]types.AttributeValue) string {
	var b strings.Builder
	for _, name := range slices.Sorted(maps.Keys(values)) {
		if hidden[name] || isDrawn(textOf(values[name])) {
			continue
		}
		b.WriteByte(' ')
		b.WriteString(strings.TrimPrefix(name, ":"))
		b.WriteByte('=')
		switch v := values[name].(type) {
		case *types.AttributeValueMemberS:
			b.WriteString(v.Value)
		case *types.AttributeValueMemberN:
			b.WriteString(v.Value)
		case *types.AttributeValueMemberBOOL:
			fmt.Fprint(&b, v.Value)
		}
	}
	return b.String()
}

// isDrawn reports whether a text is a UUID of version 4, which is chance alone.
func isDrawn(text string) bool {
	id, err := uuid.Parse(text)
	return err == nil && id.Version() == 4
}

func keyText(key map[string]types.AttributeValue) string {
	return textOf(key["pk"]) + "|" + textOf(key["sk"])
}

func (d db) Query(ctx context.Context, in *dynamodb.QueryInput, _ ...func(*dynamodb.Options)) (*dynamodb.QueryOutput, error) {
	return retried[*dynamodb.QueryOutput](ctx, d.p, func() *call {
		return &call{
			op: "Query",
			about: func() string {
				return aws.ToString(in.IndexName) + textOfAll(in.ExpressionAttributeValues) + keyText(in.ExclusiveStartKey)
			},
			do: func() (any, error) { return d.p.w.table.Query(ctx, in) },
		}
	})
}

func (d db) Scan(ctx context.Context, in *dynamodb.ScanInput, _ ...func(*dynamodb.Options)) (*dynamodb.ScanOutput, error) {
	return retried[*dynamodb.ScanOutput](ctx, d.p, func() *call {
		return &call{
			op: "Scan", about: func() string { return keyText(in.ExclusiveStartKey) },
			do: func() (any, error) { return d.p.w.table.Scan(ctx, in) },
		}
	})
}

func (d db) BatchGetItem(ctx context.Context, in *dynamodb.BatchGetItemInput, _ ...func(*dynamodb.Options)) (*dynamodb.BatchGetItemOutput, error) {
	wanted := in.RequestItems[tableName]
	about := func() string {
		var keys []string
		for _, key := range wanted.Keys {
			keys = append(keys, keyText(key))
		}
		return strings.Join(keys, " ")
	}
	return retried[*dynamodb.BatchGetItemOutput](ctx, d.p, func() *call {
		return &call{
			op: "BatchGetItem", about: about,
			do: func() (any, error) { return d.p.w.table.BatchGetItem(ctx, in) },
			part: func() (any, error) {
				half, left := wanted, wanted
				n := len(wanted.Keys) / 2
				half.Keys, left.Keys = wanted.Keys[:n], wanted.Keys[n:]
				out := &dynamodb.BatchGetItemOutput{}
				if n > 0 {
					var err error
					out, err = d.p.w.table.BatchGetItem(ctx, &dynamodb.BatchGetItemInput{RequestItems: map[string]types.KeysAndAttributes{tableName: half}})
					if err != nil {
						return nil, err
					}
				}
				out.UnprocessedKeys = map[string]types.KeysAndAttributes{tableName: left}
				return out, nil
			},
		}
	})
}

func (d db) PutItem(ctx context.Context, in *dynamodb.PutItemInput, _ ...func(*dynamodb.Options)) (*dynamodb.PutItemOutput, error) {
	return retried[*dynamodb.PutItemOutput](ctx, d.p, func() *call {
		return &call{
			op: "PutItem", about: func() string { return textOfAll(in.Item) }, write: true,
			do: func() (any, error) { return d.p.w.table.PutItem(ctx, in) },
		}
	})
}

func (d db) UpdateItem(ctx context.Context, in *dynamodb.UpdateItemInput, _ ...func(*dynamodb.Options)) (*dynamodb.UpdateItemOutput, error) {
	return retried[*dynamodb.UpdateItemOutput](ctx, d.p, func() *call {
		return &call{
			op: "UpdateItem", about: func() string { return keyText(in.Key) + textOfAll(in.ExpressionAttributeValues) }, write: true,
			unfenced: in.ExpressionAttributeValues[":suspended"] != nil,
			before:   func() { d.p.claims(in.ExpressionAttributeValues) },
			do: func() (any, error) {
				out, err := d.p.w.table.UpdateItem(ctx, in)
				if err == nil {
					d.p.w.stores(in)
				}
				return out, err
			},
		}
	})
}

func (d db) DeleteItem(ctx context.Context, in *dynamodb.DeleteItemInput, _ ...func(*dynamodb.Options)) (*dynamodb.DeleteItemOutput, error) {
	return retried[*dynamodb.DeleteItemOutput](ctx, d.p, func() *call {
		return &call{
			op: "DeleteItem", about: func() string { return keyText(in.Key) + textOfAll(in.ExpressionAttributeValues) }, write: true,
			unfenced: in.ExpressionAttributeValues[":suspended"] != nil,
			do:       func() (any, error) { return d.p.w.table.DeleteItem(ctx, in) },
		}
	})
}

func (d db) BatchWriteItem(ctx context.Context, in *dynamodb.BatchWriteItemInput, _ ...func(*dynamodb.Options)) (*dynamodb.BatchWriteItemOutput, error) {
	requests := in.RequestItems[tableName]
	about := func() string {
		var keys []string
		for _, r := range requests {
			keys = append(keys, keyText(r.DeleteRequest.Key))
		}
		return strings.Join(keys, " ")
	}
	return retried[*dynamodb.BatchWriteItemOutput](ctx, d.p, func() *call {
		return &call{
			op: "BatchWriteItem", about: about, write: true,
			do: func() (any, error) { return d.p.w.table.BatchWriteItem(ctx, in) },
			part: func() (any, error) {
				n := len(requests) / 2
				if n > 0 {
					_, err := d.p.w.table.BatchWriteItem(ctx, &dynamodb.BatchWriteItemInput{
						RequestItems: map[string][]types.WriteRequest{tableName: requests[:n]},
					})
					if err != nil {
						return nil, err
					}
				}
				return &dynamodb.BatchWriteItemOutput{UnprocessedItems: map[string][]types.WriteRequest{tableName: requests[n:]}}, nil
			},
		}
	})
}

func (d db) TransactWriteItems(ctx context.Context, in *dynamodb.TransactWriteItemsInput, _ ...func(*dynamodb.Options)) (*dynamodb.TransactWriteItemsOutput, error) {
	with := *in
	with.ClientRequestToken = aws.String(uuid.NewString()) // the SDK gives the same one to all its tries
	about := func() string {
		var parts []string
		for _, item := range in.TransactItems {
			switch {
			case item.Update != nil:
				parts = append(parts, keyText(item.Update.Key)+textOfAll(item.Update.ExpressionAttributeValues))
			case item.Put != nil:
				parts = append(parts, "put"+textOfAll(item.Put.Item))
			}
		}
		return strings.Join(parts, "; ")
	}
	return retried[*dynamodb.TransactWriteItemsOutput](ctx, d.p, func() *call {
		return &call{
			op: "TransactWriteItems", about: about, write: true, transaction: true,
			before: func() {
				for _, item := range in.TransactItems {
					if item.Update != nil {
						d.p.claims(item.Update.ExpressionAttributeValues)
					}
				}
			},
			do: func() (any, error) { return d.p.w.transact(&with) },
		}
	})
}

// kmsAPI is KMS. A ciphertext is the plaintext and where it belongs, made unreadable.
type kmsAPI struct {
	w *world
	p *process // nil: past all faults
}

func place(context map[string]string) string {
	return context["user"] + "|" + context["provider"] + "|" + context["credential"] + "|"
}

func veiled(b []byte) []byte {
	out := make([]byte, len(b))
	for i := range b {
		out[i] = b[i] ^ 0xA5
	}
	return out
}

func (k kmsAPI) Encrypt(ctx context.Context, in *kms.EncryptInput, _ ...func(*kms.Options)) (*kms.EncryptOutput, error) {
	do := func() (any, error) {
		return &kms.EncryptOutput{CiphertextBlob: veiled([]byte(place(in.EncryptionContext) + string(in.Plaintext)))}, nil
	}
	return retried[*kms.EncryptOutput](ctx, k.p, func() *call {
		return &call{service: keyService, op: "Encrypt", about: func() string { return place(in.EncryptionContext) }, do: do}
	})
}

func (k kmsAPI) Decrypt(ctx context.Context, in *kms.DecryptInput, _ ...func(*kms.Options)) (*kms.DecryptOutput, error) {
	do := func() (any, error) {
		plain, ok := bytes.CutPrefix(veiled(in.CiphertextBlob), []byte(place(in.EncryptionContext)))
		if !ok {
			return nil, &kmstypes.InvalidCiphertextException{}
		}
		return &kms.DecryptOutput{Plaintext: plain}, nil
	}
	if k.p == nil {
		out, err := do()
		if err != nil {
			return nil, err
		}
		return out.(*kms.DecryptOutput), nil
	}
	return retried[*kms.DecryptOutput](ctx, k.p, func() *call {
		return &call{service: keyService, op: "Decrypt", about: func() string { return place(in.EncryptionContext) }, do: do}
	})
}

// secrets is Secrets Manager. AgentMail's org key is in a secret of its own, and those of the
// others are in the one of all.
type secrets struct{ p *process }

func (s secrets) GetSecretValue(ctx context.Context, in *secretsmanager.GetSecretValueInput, _ ...func(*secretsmanager.Options)) (*secretsmanager.GetSecretValueOutput, error) {
	return retried[*secretsmanager.GetSecretValueOutput](ctx, s.p, func() *call {
		return &call{service: secretService, op: "GetSecretValue", about: func() string { return *in.SecretId }, do: func() (any, error) {
			provider, own := strings.CutPrefix(*in.SecretId, ownKeys)
			if !own {
				return &secretsmanager.GetSecretValueOutput{SecretString: aws.String(s.shared())}, nil
			}
			key := s.holds(provider)
			if provider != agentmail.Name || key == "" {
				return nil, &secretstypes.ResourceNotFoundException{}
			}
			return &secretsmanager.GetSecretValueOutput{SecretString: &key}, nil
		}}
	})
}

// holds is the provider's org key, or what is there in its place.
func (s secrets) holds(provider string) string {
	key, instead := s.p.w.shown[provider]
	if !instead {
		key = s.p.w.orgKeys[provider]
	}
	return key
}

// shared is what the secret of all holds.
func (s secrets) shared() string {
	var entries []string
	for _, name := range slices.Sorted(maps.Keys(s.p.w.orgKeys)) {
		key := s.holds(name)
		if key != "" && name != agentmail.Name {
			entries = append(entries, fmt.Sprintf("%q:%q", name, key))
		}
	}
	return "{" + strings.Join(entries, ",") + "}"
}

// ownKeys is what the names of the providers' own secrets begin with.
const ownKeys = "org-keys/"

// keys are the org keys. They hold a lock while they are fetched, and synctest does not take who
// waits for a lock for one who waits. So they are asked for by turns, and the player gives these,
// in an order that no scheduler decides: when a fetch that failed is tried again depends on it.
// Those of whom nobody can tell one from the other have a turn together, and go on at once.
type keys struct {
	of *orgkey.Own
	p  *process
}

func newKeys(p *process) keys {
	return keys{orgkey.NewOwn(secrets{p}, orgkey.OwnConfig{Prefix: ownKeys, Shared: "org-keys", Now: p.now}), p}
}

// await returns when it is the caller's turn, and over is how they end it.
func (k keys) await(ctx context.Context, provider string) (over func()) {
	c := &call{p: k.p, ctx: ctx, op: turn, text: &provider, done: make(chan struct{}, 1)}
	k.p.w.arrives(c)
	<-c.done
	together := c.answer.value.(chan int)
	left := <-together
	return func() {
		if left > 1 {
			together <- left - 1
			return
		}
		c.op = turnOver
		k.p.w.arrives(c)
	}
}

// Key implements managed.OrgKeys.
func (k keys) Key(ctx context.Context, provider string) (credential.Secret, error) {
	defer k.await(ctx, provider)()
	return k.of.Key(ctx, provider)
}

// Refresh implements managed.OrgKeys.
func (k keys) Refresh(ctx context.Context, provider string, rejected credential.Secret) (credential.Secret, error) {
	defer k.await(ctx, provider)()
	return k.of.Refresh(ctx, provider, rejected)
}

// The operations by which the player is asked for a turn, and told that it is over.
const (
	turn     = "turn"
	turnOver = "turn over"
)

// turns gives the turn to whoever has waited longest for it, and whoever is like them, unless
// somebody has it.
func (w *world) turns(p *process) {
	if p.turnTaken || len(p.waiting) == 0 {
		return
	}
	p.turnTaken = true
	first := p.waiting[0]
	n := slices.IndexFunc(p.waiting, func(c *call) bool { return inOrder(first, c) != 0 })
	if n < 0 {
		n = len(p.waiting)
	}
	together := make(chan int, 1)
	together <- n
	next := slices.Clone(p.waiting[:n])
	p.waiting = slices.Delete(p.waiting, 0, n)
	w.at(w.now(), func() {
		for _, c := range next {
			w.reply(c, answer{value: together})
		}
	})
}

// transport carries calls to a third party.
type transport struct {
	p        *process
	provider string
	party    party
}

// RoundTrip implements http.RoundTripper.
func (t transport) RoundTrip(r *http.Request) (*http.Response, error) {
	var body []byte
	if r.Body != nil {
		body, _ = io.ReadAll(r.Body)
		_ = r.Body.Close()
	}
	w, p := t.p.w, t.p
	parts := strings.Split(r.URL.Path, "/")
	c := &call{
		service: t.party.service(), op: r.Method + " " + pathText(t.party, parts), body: body, caller: callerIn(r.Context()),
		about: func() string { return t.provider + " " + r.URL.RawQuery + " " + namesIn(body) },
		write: r.Method != http.MethodGet, create: r.Method == http.MethodPost,
		do: func() (any, error) { return w.serve(t, r, body) },
	}
	c.before = func() { w.watchParty(c, t, r.Method, parts) }
	value, err := p.call(r.Context(), c)
	if err != nil {
		return nil, err
	}
	return value.(*http.Response), nil
}

// serve has the fake carry the call out.
func (w *world) serve(t transport, r *http.Request, body []byte) (res *http.Response, err error) {
	defer func() {
		if recover() != nil {
			err = errConnection
		}
	}()
	again := r.WithContext(context.Background())
	again.Body = io.NopCloser(bytes.NewReader(body))
	a := &answering{header: http.Header{}, status: http.StatusOK}
	t.party.ServeHTTP(a, again)
	if r.Method == http.MethodPost && a.status/100 == 2 {
		for _, key := range t.party.learn(a.body.Bytes()) {
			t.p.keys[key] = true
		}
	}
	return response(a.status, a.body.String(), a.header), nil
}

// answering is an answer while a handler writes it.
type answering struct {
	header http.Header
	status int
	body   bytes.Buffer
}

func (a *answering) Header() http.Header { return a.header }

func (a *answering) WriteHeader(status int) { a.status = status }

func (a *answering) Write(b []byte) (int, error) { return a.body.Write(b) }

func response(status int, body string, header http.Header) *http.Response {
	if header == nil {
		header = http.Header{}
	}
	return &http.Response{
		StatusCode: status, Header: header,
		Body: io.NopCloser(strings.NewReader(body)), ProtoMajor: 1, ProtoMinor: 1,
	}
}
