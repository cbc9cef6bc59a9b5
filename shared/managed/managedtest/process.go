package managedtest

import (
	"context"
	"net"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"
	"time"

	"managed-credentials/shared/local/fault"
	"managed-credentials/shared/managed"
	"managed-credentials/shared/store"
)

// Process is what one instance of a function has: an engine with clients and memories of its own,
// behind proxies of its own, so that it can be ended without harm to others.
type Process struct {
	*managed.Engine
	// Store is the engine's.
	Store *store.Store
	// Context is for what the process does. It ends with it.
	Context context.Context

	dead    atomic.Bool
	end     context.CancelFunc
	servers []*httptest.Server
}

// Process starts one. now is its clock, and hook says what becomes of each call that it makes.
func (w *World) Process(now func() time.Time, hook func(*fault.Call) fault.Fault) *Process {
	w.t.Helper()
	p := &Process{}
	p.Context, p.end = context.WithCancel(context.Background())
	c := w.config(now, func(before *fault.Proxy) string {
		proxy := fault.New(w.targets[before])
		proxy.SetHook(func(c *fault.Call) fault.Fault {
			if p.dead.Load() {
				return fault.Drop()
			}
			return p.unlessDead(hook(c))
		})
		server := httptest.NewUnstartedServer(proxy)
		server.Config.ConnState = reset
		server.Start()
		p.servers = append(p.servers, server)
		return server.URL
	})
	p.Engine, p.Store = w.engine(c), c.Store
	return p
}

// reset has a connection end with a reset, so that its port is free at once. Each serves one call,
// and a search makes some thousand calls a second: closed in the usual way they would keep so many
// ports for a minute that a fifth of the search went into looking for free ones.
func reset(c net.Conn, state http.ConnState) {
	if state == http.StateNew {
		_ = c.(*net.TCPConn).SetLinger(0) // without it all goes on, slower
	}
}

// unlessDead keeps a dead process from making calls, and from hearing of those that it has made.
func (p *Process) unlessDead(f fault.Fault) fault.Fault {
	return func(ctx context.Context, c *fault.Call) (*fault.Answer, error) {
		if p.dead.Load() {
			return nil, nil
		}
		var a *fault.Answer
		var err error
		if f == nil {
			a, err = c.Forward(context.WithoutCancel(ctx))
		} else {
			a, err = f(ctx, c)
		}
		if p.dead.Load() {
			return nil, nil
		}
		return a, err
	}
}

// Kill ends the process as SIGKILL would: what it has sent is on its way, and it sends and hears
// nothing any more.
func (p *Process) Kill() {
	p.dead.Store(true)
	p.end()
}

// Close kills the process and frees what it has.
func (p *Process) Close() {
	p.Kill()
	for _, server := range p.servers {
		server.Close()
	}
}

// Lend gives the world to another test, with other options, and as it was when it was new but for
// the time. Nobody else may use it meanwhile. Making a new one costs as much as some hundred calls.
func (w *World) Lend(t testing.TB, o Options) *World {
	t.Helper()
	lent := *w
	lent.t = t
	lent.options = o.withDefaults()
	lent.mode = &atomic.Pointer[managed.Mode]{}
	w.Heal()
	w.Clock.forget()
	w.Mail.Reset()
	lent.stand()
	w.SetOrgKeys(orgKeys)
	w.logs.reset()
	for _, item := range w.items() {
		w.deleteItem(item)
	}
	return &lent
}
