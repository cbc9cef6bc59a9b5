package sim_test

import (
	"math/rand/v2"
	"net/http"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
	kmstypes "github.com/aws/aws-sdk-go-v2/service/kms/types"

	"managed-credentials/shared/provider/agentmail"
	"managed-credentials/shared/provider/openrouter"
)

// config is what a schedule draws before anything else: swarm testing, in which no two runs have
// the same faults, so that some are quiet, some are storms, and each kind of fault is met without
// the others, too.
type config struct {
	providers []string
	skewed    bool
	adopts    bool
	holdback  time.Duration
	lingers   time.Duration
	listsLag  time.Duration
	inboxes   time.Duration
	rates     []float64 // of each of the ways
	stale     float64
	tasks     int
	// plain leaves out what the specification does, and rotates instead.
	plain bool
	// switches are how often users are disabled and enabled in the user pool.
	switches int
	// leak is when all keys of the first provider are replaced; 0 for never.
	leak time.Duration
	// aging is from when on walks look for keys that are too old, as all of them are; 0 for never.
	aging time.Duration
	// keysLive is how long after a suspension the user's keys are revoked; 0 for never.
	keysLive time.Duration
}

// The ways in which a call goes wrong.
const (
	lost        = "lost"
	hung        = "never answered"
	late        = "late, and its sender is told that the connection is lost"
	slow        = "slow"
	answerLost  = "its answer is lost"
	answerLate  = "its answer is late"
	failed      = "fails"
	failedAfter = "takes effect, and fails"
	twice       = "arrives twice"
	conflict    = "meets a transaction"
	throttled   = "throttled"
	partly      = "done in part"
)

var ways = []string{lost, hung, late, slow, answerLost, answerLate, failed, failedAfter, twice, conflict, throttled, partly}

func drawConfig(rng *rand.Rand) config {
	c := config{tasks: 3 + rng.IntN(14)}
	c.providers = [][]string{{agentmail.Name}, {agentmail.Name}, {openrouter.Name}, {agentmail.Name, openrouter.Name}}[rng.IntN(4)]
	c.skewed = rng.IntN(2) == 0
	c.adopts = rng.IntN(5) == 0
	if rng.IntN(6) == 0 {
		c.holdback = time.Hour
	}
	if rng.IntN(4) == 0 {
		c.lingers = time.Duration(rng.IntN(20)) * time.Second
	}
	if rng.IntN(3) == 0 {
		c.inboxes = time.Duration(rng.IntN(40)) * time.Second
	}
	storm := []float64{0, 0.3, 1, 1, 3}[rng.IntN(5)]
	for range ways {
		rate := []float64{0, 0, 0.005, 0.02, 0.06}[rng.IntN(5)]
		c.rates = append(c.rates, rate*storm)
	}
	c.stale = []float64{0, 0, 0.05, 0.3}[rng.IntN(4)]
	return c
}

// stale is an eventually consistent read's chance to see an item as it was.
func (w *world) stale(key [2]string) bool {
	if w.over || w.config.stale == 0 || w.only != nil && !w.only[staleReads] {
		return false
	}
	w.staleDraws++
	stale := float64(mix(w.seed, hashing(hashOf(key[0]), key[1]), w.staleDraws)%1000) < 1000*w.config.stale
	if stale && !w.sawStale {
		w.sawStale = true
		w.struck = append(w.struck, staleReads)
	}
	return stale
}

// way draws what becomes of a call.
func (w *world) way(c *call, rng *rand.Rand) way {
	delay := time.Duration(1+rng.IntN(40)) * time.Millisecond
	dice, some := rng.Float64(), rng.Float64()
	plain := way{delay: delay}
	if w.over {
		return plain
	}
	if w.outOfReach(c.service) {
		if some < 0.3 {
			return way{name: hung, none: true, silent: true}
		}
		return way{name: failed, delay: delay, none: true, answer: failure(c, some)}
	}
	name := ""
	for i, rate := range w.config.rates {
		dice -= rate
		if dice < 0 {
			name = ways[i]
			break
		}
	}
	if name == "" || w.only != nil && !w.only[c.id()] {
		return plain
	}
	gone := &answer{err: errConnection}
	share := func(d time.Duration) time.Duration { return time.Duration(some * float64(d)) }
	far := share(100 * time.Second)
	if c.create {
		far = share(effectTime - time.Millisecond)
	}
	switch name {
	case lost:
		return way{name: name, delay: share(2 * time.Second), none: true, answer: gone}
	case hung:
		return way{name: name, none: true, silent: true}
	case late:
		if !c.write || c.unfenced {
			return plain
		}
		w.at(w.now().Add(delay+c.own), func() { w.reply(c, *gone) })
		return way{name: name, delay: far, silent: true}
	case slow:
		return way{name: name, delay: share(15 * time.Second)}
	case answerLost:
		return way{name: name, delay: delay, answer: gone}
	case answerLate:
		return way{name: name, delay: delay, wait: share(15 * time.Second)}
	case failed:
		return way{name: name, delay: delay, none: true, answer: failure(c, some)}
	case failedAfter:
		if !c.write {
			return plain
		}
		return way{name: name, delay: delay, answer: failure(c, some)}
	case twice:
		if !c.write || c.create || c.transaction || c.unfenced { // no network doubles a POST, and the SDK's token makes one of two transactions
			return plain
		}
		return way{name: name, delay: delay, again: min(far, effectTime-time.Second)}
	case conflict:
		if c.service != dynamoDB || !c.write || c.op == "BatchWriteItem" {
			return plain
		}
		return way{name: name, delay: delay, none: true, answer: conflictOf(c)}
	case throttled:
		return way{name: name, delay: delay, none: true, answer: throttle(c)}
	case partly:
		if c.part == nil {
			return plain
		}
		return way{name: name, delay: delay, effect: c.part}
	}
	return plain
}

func failure(c *call, some float64) *answer {
	switch c.service {
	case dynamoDB:
		return &answer{err: &types.InternalServerError{Message: aws.String("Internal server error")}}
	case keyService, poolService:
		return &answer{err: &kmstypes.KMSInternalException{}}
	case secretService:
		return &answer{err: &types.InternalServerError{}}
	case mailService, routerService, accountsService, profilesService:
	}
	if some < 0.5 {
		return &answer{value: response(http.StatusServiceUnavailable, "", nil)}
	}
	return &answer{value: response(http.StatusInternalServerError, `{"name":"InternalServerError"}`, nil)}
}

func throttle(c *call) *answer {
	if c.service.isParty() {
		return &answer{value: response(http.StatusTooManyRequests, `{"code":"rate_limit_exceeded"}`, http.Header{"Retry-After": {"1"}})}
	}
	return &answer{err: &types.ProvisionedThroughputExceededException{Message: aws.String("too many")}}
}

func conflictOf(c *call) *answer {
	if c.transaction {
		return &answer{err: &types.TransactionCanceledException{CancellationReasons: []types.CancellationReason{
			{Code: aws.String("None")}, {Code: aws.String("TransactionConflict")},
		}}}
	}
	return &answer{err: &types.TransactionConflictException{}}
}

// outage is a time in which a service does not answer.
type outage struct {
	service   service
	from, end time.Time
}

func (w *world) outOfReach(s service) bool {
	for _, o := range w.outages {
		if o.service == s && !w.now().Before(o.from) && w.now().Before(o.end) {
			return true
		}
	}
	return false
}
