package managed

import (
	"errors"
	"sync"
	"time"
)

// errNotNow: the third party is not to be called now, nor as long as there is time to wait. Nothing
// was done, and the work stays due.
var errNotNow = errors.New("the third party is left alone for now")

// health is what this process knows of how one third party is. None of it is in the table: each
// process finds out for itself.
type health struct {
	circuit circuit
	// turn is held by the one who waits to be let through: the others come after.
	turn chan struct{}

	mu   sync.Mutex
	pace *pace
	// costs are the calls that the last pass of each kind took.
	costs map[work]int
	// fullUntil is until when the organisation may have no more resources. What is revoked makes
	// room.
	fullUntil time.Time
	// failure is the last one.
	failure Failure
	// foreign are the users whose slots were of another organisation than the org key, in a row.
	foreign map[string]bool
}

func newHealth(p Provider) *health {
	rate := 0.0
	paced, ok := p.(Paced)
	if ok {
		rate = paced.Rate()
	}
	return &health{
		circuit: circuit{most: slotsThatFail},
		turn:    make(chan struct{}, 1),
		pace:    newPace(rate),
		costs:   map[work]int{},
		foreign: map[string]bool{},
	}
}

// work is a kind of pass over a slot.
type work string

const (
	making   work = "provision"
	sweeping work = "sweep"
	revoking work = "revoke"
	looking  work = "last look"
	other    work = "" // under no claim
)

const (
	// These are how long a call may wait under a claim.
	longestPauseOfAList = 2 * time.Second
	longestPause        = 10 * time.Second
	// shortPause is how long a third party that asks for fewer calls is left alone if it does not
	// say.
	shortPause = time.Second
	// hang is how long a call has to have taken for our own deadline to be the third party's
	// failure.
	hang = 2 * time.Second
	// fullMemory is how long a third party that takes nothing more is asked to make nothing.
	fullMemory = 10 * time.Second
)
