// Package jitter is the chance by which pauses are spread, so that those who wait do not all come
// back at once.
package jitter

import (
	"math/rand/v2"
	"time"
)

// Source returns a duration of 0 or more and less than n, which is above 0. It is chance itself,
// but for a simulation, which has to do the same twice and sets it before anything else runs.
var Source = rand.N[time.Duration]

// Below is a duration of 0 or more and less than n, which is above 0.
func Below(n time.Duration) time.Duration { return Source(n) }
