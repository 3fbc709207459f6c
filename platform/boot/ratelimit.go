package boot

import (
	"spillway.dev/platform/ratelimit"
)

// limits makes the limits that all replicas keep together in the Redis at addr; nil where there is none. The client dials
// when it is asked first, so a limit that nobody switches on costs no connection.
func (a *App) limits(addr string) func(name string) *ratelimit.Global {
	if addr == "" {
		return func(string) *ratelimit.Global { return nil }
	}
	client := a.Redis(addr)
	return func(name string) *ratelimit.Global { return ratelimit.NewGlobal(name, client, a.knobs.Replicas) }
}
