package boot

import (
	"context"
	"time"

	"github.com/redis/go-redis/v9"

	"spillway.dev/platform/gcra"
	"spillway.dev/platform/ratelimit"
)

// PaceOnly says which methods of callee count against its quota, by their full names: pacing lets the others past.
func (a *App) PaceOnly(callee string, methods ...string) { a.outbound.Pacer(callee).Only(methods...) }

// PaceTogether has the calls to callee counted in Redis, with those of all other replicas of the service, while
// pacing.mode is global. Without it that mode gives each replica its share.
func (a *App) PaceTogether(callee string, client *redis.Client) {
	limits := ratelimit.NewGlobal(a.name+">"+callee, client, a.knobs.Replicas)
	a.outbound.Pacer(callee).Together(func(ctx context.Context, limit gcra.Limit) time.Duration {
		return limits.Admit(ctx, gcra.Ask{Key: "pace", Limit: limit}).Wait
	})
}
