package telemetry

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/redis/go-redis/extra/redisotel/v9"
	"github.com/redis/go-redis/v9"
	"go.opentelemetry.io/otel/trace"
	"go.opentelemetry.io/otel/trace/embedded"
	"go.opentelemetry.io/otel/trace/noop"
)

// InstrumentRedis adds spans (inside calls that are traced, never with the
// values or keys of a command), durations by command and outcome, and the
// state of the connection pool.
func (t *Telemetry) InstrumentRedis(client *redis.Client) error {
	err := redisotel.InstrumentTracing(client,
		redisotel.WithTracerProvider(insideTraces{to: t.traces}),
		redisotel.WithDBStatement(false),
		redisotel.WithCallerEnabled(false),
		redisotel.WithDialFilter(true),
	)
	if err != nil {
		return fmt.Errorf("telemetry: instrument Redis at %s: %w", client.Options().Addr, err)
	}
	client.AddHook(redisDurations{t.redis.durations})
	t.redis.pools.add(client)
	return nil
}

// insideTraces starts spans only inside a trace. The SDK would come to the
// same end, but only after it made a span; and a command that a worker runs by
// itself would be a root, of which there are too many to be of use.
type insideTraces struct {
	embedded.TracerProvider
	to trace.TracerProvider
}

func (p insideTraces) Tracer(name string, opts ...trace.TracerOption) trace.Tracer {
	return insideTracer{to: p.to.Tracer(name, opts...)}
}

type insideTracer struct {
	embedded.Tracer
	to trace.Tracer
}

func (t insideTracer) Start(ctx context.Context, name string, opts ...trace.SpanStartOption) (context.Context, trace.Span) {
	if !trace.SpanContextFromContext(ctx).IsSampled() {
		return ctx, noop.Span{}
	}
	return t.to.Start(ctx, name, opts...)
}

type redisMetrics struct {
	durations *prometheus.HistogramVec
	pools     *redisPools
}

func newRedisMetrics(reg prometheus.Registerer) (*redisMetrics, error) {
	m := &redisMetrics{
		durations: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name:    "db_client_operation_duration_seconds",
			Help:    "Duration of Redis commands as the client sees them, with waiting for a connection; a pipeline or transaction is one operation.",
			Buckets: Buckets(),
		}, []string{"db_operation_name", "outcome"}),
		pools: newRedisPools(),
	}
	return m, errors.Join(reg.Register(m.durations), reg.Register(m.pools))
}

// redisDurations is the hook that times commands.
type redisDurations struct{ to *prometheus.HistogramVec }

func (h redisDurations) DialHook(next redis.DialHook) redis.DialHook { return next }

func (h redisDurations) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		start := time.Now()
		err := next(ctx, cmd)
		h.observe(ctx, cmd.Name(), err, time.Since(start))
		return err
	}
}

func (h redisDurations) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		start := time.Now()
		err := next(ctx, cmds)
		h.observe(ctx, "pipeline", err, time.Since(start))
		return err
	}
}

func (h redisDurations) observe(ctx context.Context, command string, err error, took time.Duration) {
	Observe(ctx, h.to.WithLabelValues(command, redisOutcome(err)), took.Seconds())
}

// redisOutcome is one of few words: an error's text would be a label without end.
func redisOutcome(err error) string {
	var network net.Error
	switch {
	case err == nil, errors.Is(err, redis.Nil):
		return "ok"
	case errors.Is(err, redis.ErrPoolTimeout):
		return "pool_timeout"
	case errors.Is(err, context.Canceled):
		return "canceled"
	case errors.Is(err, context.DeadlineExceeded), errors.As(err, &network) && network.Timeout():
		return "timeout"
	}
	return "error"
}

// redisPools reports the connection pools of all clients, by server address.
type redisPools struct {
	hits, misses, timeouts, stale, connections, idle *prometheus.Desc

	mu      sync.Mutex
	clients []*redis.Client
}

func newRedisPools() *redisPools {
	desc := func(name, help string) *prometheus.Desc {
		return prometheus.NewDesc("redis_pool_"+name, help, []string{"server_address"}, nil)
	}
	return &redisPools{
		hits:        desc("hits_total", "Times a free connection was found in the pool."),
		misses:      desc("misses_total", "Times no free connection was found in the pool."),
		timeouts:    desc("timeouts_total", "Times a wait for a connection ended without one."),
		stale:       desc("stale_connections_total", "Connections removed because they were stale."),
		connections: desc("connections", "Connections in the pool, idle or in use."),
		idle:        desc("idle_connections", "Idle connections in the pool."),
	}
}

func (p *redisPools) add(client *redis.Client) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.clients = append(p.clients, client)
}

// Describe implements prometheus.Collector.
func (p *redisPools) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{p.hits, p.misses, p.timeouts, p.stale, p.connections, p.idle} {
		ch <- d
	}
}

// Collect implements prometheus.Collector. Clients of one server are added up.
func (p *redisPools) Collect(ch chan<- prometheus.Metric) {
	p.mu.Lock()
	defer p.mu.Unlock()
	sums := make(map[string]redis.PoolStats, len(p.clients))
	for _, client := range p.clients {
		sum, s := sums[client.Options().Addr], client.PoolStats()
		sum.Hits += s.Hits
		sum.Misses += s.Misses
		sum.Timeouts += s.Timeouts
		sum.StaleConns += s.StaleConns
		sum.TotalConns += s.TotalConns
		sum.IdleConns += s.IdleConns
		sums[client.Options().Addr] = sum
	}
	for addr, s := range sums {
		counter := func(d *prometheus.Desc, v uint32) {
			ch <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(v), addr)
		}
		counter(p.hits, s.Hits)
		counter(p.misses, s.Misses)
		counter(p.timeouts, s.Timeouts)
		counter(p.stale, s.StaleConns)
		ch <- prometheus.MustNewConstMetric(p.connections, prometheus.GaugeValue, float64(s.TotalConns), addr)
		ch <- prometheus.MustNewConstMetric(p.idle, prometheus.GaugeValue, float64(s.IdleConns), addr)
	}
}
