package boot

import (
	"spillway.dev/platform/ratelimit"
)

// rateLimit makes the limit that all replicas of the service keep together in the Redis at addr; nil where there is none.
// The client dials when it is asked first, so a limit that nobody switches on costs no connection.
func (a *App) rateLimit(addr string) *ratelimit.Global {
	if addr == "" {
		return nil
	}
	return ratelimit.NewGlobal(a.name, a.Redis(addr), a.knobs.Replicas)
}
