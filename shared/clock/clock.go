// Package clock is the one clock of a process, and it is the wall clock.
//
// A time that time.Now returns also carries a reading of the monotonic clock, and package time
// compares two such times by that reading alone. The monotonic clock stands still while a machine
// is suspended, as a Lambda environment may be between two invocations. By it a lease would never
// run out over a pause, and a remembered outage would never end. HashiCorp's Lambda extension met
// this and mended it in the same way: https://github.com/hashicorp/vault-lambda-extension/pull/150.
//
// Nothing else that a function runs asks package time for the time, where that is kept or compared.
// The timers of contexts and of HTTP clients run on the monotonic clock all the same: they bound
// how long this process waits, and what must not be done too late is held to this clock besides.
package clock

import "time"

// Now is the time by the wall clock, without a monotonic reading.
func Now() time.Time {
	return time.Now().Round(0) //nolint:forbidigo // here, and nowhere else
}

// Until is how long it is until t by the wall clock, also if t carries a monotonic reading, as the
// deadlines of most contexts do.
func Until(t time.Time) time.Duration { return t.Sub(Now()) }
