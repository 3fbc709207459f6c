// Package ratelimit lets no more calls in than a rate allows: of all callers together, with some of the burst kept for the
// more urgent, and of each person where calls come with a session. Each replica keeps the limit by itself, or all of a
// service keep it together in Redis.
package ratelimit

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strings"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc"

	"spillway.dev/platform/criticality"
	"spillway.dev/platform/gcra"
	"spillway.dev/platform/knobs"
	"spillway.dev/platform/ratelimit"
	"spillway.dev/platform/refusal"
	"spillway.dev/platform/session"
)

// name is the protection's, in metrics and refusals.
const name = "ratelimit"

// The choices of knob ratelimit.mode.
const (
	modeOff     = "off"
	modeReplica = "replica"
	modeGlobal  = "global"
)

// Limiter limits the calls into one replica. Safe for concurrent use.
type Limiter struct {
	limits  atomic.Pointer[limits] // nil: off
	own     *gcra.Limiter
	global  *ratelimit.Global // nil: the service has no Redis for it
	now     func() time.Duration
	refused *refusal.By
	decided [sources]outcomes
}

// Who decides, as counted.
const (
	byReplica = iota
	byRedis
	byAllowance
	sources
)

// outcomes counts what one source decided.
type outcomes struct {
	admitted prometheus.Counter
	refused  [2]prometheus.Counter // by the limit that refused
}

// New returns a limiter that lets everything in until knob ratelimit.mode says otherwise. It declares the knobs
// ratelimit.* in set. global is the limit that the service's replicas keep together; with nil there is no mode global.
func New(set *knobs.Set, reg prometheus.Registerer, refused *refusal.Counter, global *ratelimit.Global) (*Limiter, error) {
	begin := time.Now()
	l := &Limiter{own: gcra.NewLimiter(), global: global, refused: refused.Inbound(name),
		now: func() time.Duration { return time.Since(begin) }}
	if err := l.count(reg); err != nil {
		return nil, err
	}
	l.declare(set)
	return l, nil
}

func (l *Limiter) declare(set *knobs.Set) {
	modes, help := []string{modeOff, modeReplica}, "the rate of calls in is not limited, or each replica keeps the limit by itself"
	if l.global != nil {
		modes, help = append(modes, modeGlobal), help+", or all replicas of the service together"
	}
	mode := set.Choice("ratelimit.mode", modeOff, modes, help)
	perSecond := set.Float("ratelimit.per_second", 100, 0.1, 100_000, "calls a second that are let in, by a replica or by all together")
	burst := set.Int("ratelimit.burst", 0, 0, 1_000_000, "calls that may come at once after a pause; 0: as many as in a second")
	reserve := set.Float("ratelimit.reserve", 0.2, 0, 0.5, "share of the burst, 0 to 0.5, that standard calls leave to critical ones; sheddable calls leave twice that")
	each := set.Float("ratelimit.person_per_second", 0, 0, 1000, "calls a second that are let in with one session; 0: no such limit")
	// All knobs have their new values before any function is called, so that a change of several is seen as one.
	read := func() {
		l.limits.Store(settings{mode.Get(), perSecond.Get(), burst.Get(), reserve.Get(), each.Get()}.limits())
	}
	mode.OnChange(func(string) { read() })
	burst.OnChange(func(int64) { read() })
	for _, k := range []*knobs.Float{perSecond, reserve, each} {
		k.OnChange(func(float64) { read() })
	}
}

func (l *Limiter) count(reg prometheus.Registerer) error {
	total := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "spillway_ratelimit_decisions_total",
		Help: "Calls that a rate limit decided on, by who decided (the replica by itself, Redis for all replicas, or the replica's allowance while Redis is away) and outcome.",
	}, []string{"source", "outcome"})
	for source, label := range [sources]string{byReplica: "replica", byRedis: "redis", byAllowance: "allowance"} {
		l.decided[source] = outcomes{total.WithLabelValues(label, "admitted"), [2]prometheus.Counter{
			total.WithLabelValues(label, "refused_"+service), total.WithLabelValues(label, "refused_"+person)}}
	}
	if err := reg.Register(total); err != nil {
		return fmt.Errorf("register the metrics of rate limits: %w", err)
	}
	return nil
}

// admit gives nil for a call that is let in, and the answer of one that is not.
func (l *Limiter) admit(ctx context.Context, limits *limits) error {
	who := ""
	if limits.each.Interval > 0 {
		who = whose(ctx)
	}
	class, _ := criticality.From(ctx)
	var wait time.Duration
	var by, source int
	if limits.global && l.global != nil {
		wait, by, source = l.together(ctx, limits, class, who)
	} else {
		wait, by, source = l.alone(limits, class, who)
	}
	if wait == 0 {
		l.decided[source].admitted.Inc()
		return nil
	}
	l.decided[source].refused[by].Inc()
	l.refused.Count(ctx)
	return answer(by, wait)
}

// alone decides by this replica's own state. It allocates nothing, which is why it and together are two.
func (l *Limiter) alone(limits *limits, class criticality.Class, who string) (wait time.Duration, by, source int) {
	asks, n := limits.asks(class, who)
	wait, by = l.own.Admit(l.now(), asks[:n]...)
	return wait, by, byReplica
}

// together decides with all replicas.
func (l *Limiter) together(ctx context.Context, limits *limits, class criticality.Class, who string) (wait time.Duration, by, source int) {
	asks, n := limits.asks(class, who)
	verdict := l.global.Admit(ctx, asks[:n]...)
	if verdict.Source == ratelimit.Allowance {
		return verdict.Wait, verdict.By, byAllowance
	}
	return verdict.Wait, verdict.By, byRedis
}

// whose is the key of the person that a call comes from, "" when nobody can tell. A person is known by the session at the
// edge alone; inside, the edge's limit has done its work. The key is not the token, since it is stored; and not of what a
// caller can change at will, so that it has no other key with each call: a token may begin with a key for affinity, up to
// a dot, that is no part of the secret.
func whose(ctx context.Context) string {
	token := string(session.Bearer(ctx))
	if token == "" {
		return ""
	}
	sum := sha256.Sum256([]byte(token[strings.LastIndexByte(token, '.')+1:]))
	return person + ":" + hex.EncodeToString(sum[:16])
}

// Unary is the interceptor of unary calls.
func (l *Limiter) Unary(ctx context.Context, req any, _ *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
	if limits := l.limits.Load(); limits != nil {
		if err := l.admit(ctx, limits); err != nil {
			return nil, err
		}
	}
	return handler(ctx, req)
}

// Stream is the interceptor of streams: each is one call.
func (l *Limiter) Stream(srv any, ss grpc.ServerStream, _ *grpc.StreamServerInfo, handler grpc.StreamHandler) error {
	if limits := l.limits.Load(); limits != nil {
		if err := l.admit(ss.Context(), limits); err != nil {
			return err
		}
	}
	return handler(srv, ss)
}
