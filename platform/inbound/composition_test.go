package inbound_test

import (
	"context"
	"log/slog"
	"math/rand/v2"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/test/bufconn"

	"spillway.dev/platform/capacity"
	"spillway.dev/platform/criticality"
	"spillway.dev/platform/inbound"
	"spillway.dev/platform/knobs"
	"spillway.dev/platform/problem"
	"spillway.dev/platform/refusal"
	sessionv1 "spillway.dev/proto/gen/spillway/session/v1"
)

// overloaded is a server with the whole inbound chain, in a bubble: its connection is in memory, so that the bubble's clock
// drives it.
type overloaded struct {
	knobs    *knobs.Set
	registry *prometheus.Registry
	chain    *inbound.Chain
	answer   func() error // what who is served gets
	door     atomic.Pointer[bufconn.Listener]
	stop     func() // of the server that there is
}

func overload(t *testing.T, config capacity.Config, values map[string]string, answer func() error) *overloaded {
	t.Helper()
	o := &overloaded{knobs: knobs.NewSet(), registry: prometheus.NewPedanticRegistry(), answer: answer}
	station, err := capacity.New(config, o.registry)
	if err != nil {
		t.Fatal(err)
	}
	refused, err := refusal.New(o.registry)
	if err != nil {
		t.Fatal(err)
	}
	refuse := o.knobs.Bool("deadline.refuse", true, "as boot declares it")
	refuse.OnChange(station.SetRefuse)
	o.chain, err = inbound.New(inbound.Config{DefaultDeadline: 5 * time.Second, MinimumDeadline: 5 * time.Millisecond, RefuseLate: refuse.Get},
		inbound.Replica{Service: "session", Log: slog.New(slog.DiscardHandler), Registry: o.registry, Knobs: o.knobs, Refused: refused, Station: station})
	if err != nil {
		t.Fatal(err)
	}
	if err := o.knobs.Apply(values); err != nil {
		t.Fatal(err)
	}
	o.serve()
	return o
}

// serve begins a server, the first or one in place of one that was stopped.
func (o *overloaded) serve() {
	server := grpc.NewServer(o.chain.ServerOptions()...)
	sessionv1.RegisterSessionServiceServer(server, sessions{touch: func(context.Context, *sessionv1.TouchRequest) (*sessionv1.TouchResponse, error) {
		return &sessionv1.TouchResponse{}, o.answer()
	}})
	lis := bufconn.Listen(1 << 20)
	o.door.Store(lis)
	var serving sync.WaitGroup
	serving.Go(func() { _ = server.Serve(lis) })
	o.stop = func() {
		server.Stop()
		serving.Wait()
	}
}

// dial connects to the server that there is. The connection is closed before the bubble ends.
func (o *overloaded) dial(t *testing.T, opts ...grpc.DialOption) *grpc.ClientConn {
	t.Helper()
	conn, err := grpc.NewClient("passthrough:///bubble", append(opts, grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return o.door.Load().DialContext(ctx) }))...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return conn
}

// fine is what a server answers that is well.
func fine() error { return nil }

// counted sums a metric over the series with the given labels.
func counted(t *testing.T, registry *prometheus.Registry, name string, labels map[string]string) (total int) {
	t.Helper()
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() != name {
			continue
		}
	series:
		for _, m := range f.GetMetric() {
			for _, l := range m.GetLabel() {
				if want, asked := labels[l.GetName()]; asked && want != l.GetValue() {
					continue series
				}
			}
			total += int(m.GetCounter().GetValue() + m.GetGauge().GetValue())
		}
	}
	return total
}

// TestProtectionsTogether puts five times the load that a replica can serve on it over real gRPC, with protections alone and
// together: goodput stays near the capacity, urgent calls are served before others, every call has exactly one end, every
// refusal is counted once by the one that refused, nothing outlasts its deadline, and nothing is left behind.
func TestProtectionsTogether(t *testing.T) {
	shed := map[string]string{"shed.mode": "priority"}
	limit := map[string]string{"concurrency.mode": "aimd"}
	learn := map[string]string{"concurrency.mode": "adaptive"}
	line := map[string]string{"queue.mode": "newest-first"}
	patient := map[string]string{"deadline.refuse": "false"}
	for name, test := range map[string]struct {
		knobs       []map[string]string
		least, most float64 // goodput, in capacities
		by          []string
	}{
		"nothing": {[]map[string]string{patient}, 0, 0.3, nil},
		// The station knows how long each call will take, and takes the short ones of those that come.
		"deadlines":                {nil, 0.8, 4, nil},
		"shed":                     {[]map[string]string{shed, patient}, 0.7, 1.2, []string{"shed"}},
		"concurrency":              {[]map[string]string{limit, patient}, 0.85, 1.2, []string{"concurrency"}},
		"queue":                    {[]map[string]string{line, patient}, 0.85, 1.2, []string{"queue"}},
		"concurrency, queue":       {[]map[string]string{limit, line}, 0.85, 1.2, []string{"concurrency", "queue"}},
		"shed, adaptive, queue":    {[]map[string]string{shed, learn, line}, 0.7, 1.2, []string{"shed", "concurrency", "queue"}},
		"shed, concurrency, queue": {[]map[string]string{shed, limit, line}, 0.7, 1.2, []string{"shed", "concurrency", "queue"}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				values := map[string]string{}
				for _, some := range test.knobs {
					for k, v := range some {
						values[k] = v
					}
				}
				o := overload(t, capacity.Config{Slots: 5, ServiceTime: 40 * time.Millisecond, Distribution: capacity.Exponential, Seed: 1}, values, fine)
				defer func() { o.stop() }()
				client := sessionv1.NewSessionServiceClient(o.dial(t))
				const perSecond, duration = 125, 5 * time.Second
				var mu sync.Mutex
				var sent, served [criticality.Classes]int
				refused := map[string]int{}
				late := 0
				random := rand.New(rand.NewPCG(1, 2))
				var callers sync.WaitGroup
				begin := time.Now()
				for time.Since(begin) < duration {
					time.Sleep(time.Duration(random.ExpFloat64() * float64(time.Second) / perSecond / 5))
					class, band := criticality.Class(min(random.IntN(5), 2)), criticality.Band(random.IntN(criticality.Bands))
					sent[class]++
					callers.Go(func() {
						ctx, cancel := context.WithTimeout(t.Context(), time.Second)
						defer cancel()
						ctx = metadata.AppendToOutgoingContext(ctx, criticality.Header, criticality.Text(class, band))
						from := time.Now()
						_, err := client.Touch(ctx, &sessionv1.TouchRequest{Token: "t"})
						if took := time.Since(from); took > time.Second {
							t.Errorf("a call with a second was kept for %v", took)
						}
						mu.Lock()
						defer mu.Unlock()
						switch p := problem.From(err); {
						case err == nil:
							served[class]++
						case p.Code == codes.ResourceExhausted && p.Reason == problem.Overloaded && p.Retryable && p.RetryAfter > 0:
							refused[p.Metadata[refusal.ByKey]]++
						case p.Code == codes.DeadlineExceeded:
							late++
						default:
							t.Error(err)
						}
					})
				}
				callers.Wait()
				synctest.Wait() // the server's side of calls whose deadline passed
				time.Sleep(time.Second)
				goodput := float64(served[0]+served[1]+served[2]) / perSecond / duration.Seconds()
				t.Logf("goodput %.3f of the capacity; of %v served %v; refused %v, late %d", goodput, sent, served, refused, late)
				if goodput < test.least || goodput > test.most {
					t.Errorf("goodput is %.3f of the capacity, want %v to %v", goodput, test.least, test.most)
				}
				ends := late
				for class, n := range served {
					ends += n
					if len(test.by) > 0 && class > 0 && float64(n)/float64(sent[class]) > float64(served[class-1])/float64(sent[class-1])+0.05 {
						t.Errorf("%v calls are served sooner than %v ones: %v of %v", criticality.Class(class), criticality.Class(class-1), served, sent)
					}
				}
				for by, n := range refused {
					ends += n
					if got := counted(t, o.registry, "spillway_refused_total", map[string]string{"by": by}); got != n {
						t.Errorf("%s refused %d and counted %d", by, n, got)
					}
					if !slices.Contains(test.by, by) {
						t.Errorf("%s refused %d, although it is off", by, n)
					}
				}
				if all := sent[0] + sent[1] + sent[2]; ends != all {
					t.Errorf("%d calls ended, %d were sent", ends, all)
				}
				for _, gauge := range []string{"spillway_queue_length", "spillway_concurrency_in_flight"} {
					if n := counted(t, o.registry, gauge, nil); n != 0 {
						t.Errorf("%s is %d at the end", gauge, n)
					}
				}
			})
		})
	}
}
