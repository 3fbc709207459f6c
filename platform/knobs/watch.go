package knobs

import (
	"context"
	"log/slog"
	"maps"
	"math/rand/v2"
	"sync"
	"time"

	"google.golang.org/grpc"

	knobv1 "spillway.dev/proto/gen/spillway/knob/v1"
)

// Waits between watches that end: short at first, since a control plane that was started again is back at once, and
// never so long that it waits to be noticed.
const (
	firstWait = 50 * time.Millisecond
	mostWait  = time.Second
)

// Watch declares set's knobs to the control plane at conn, and applies every snapshot that it sends for service, of values
// and of how many replicas there are, until ctx ends. instance tells the service's replicas apart. first is called once, after the first snapshot
// was applied.
//
// A watch that ends is begun again, for ever; until then the knobs keep their values. While conn cannot connect,
// conn's own back-off decides on the next attempt.
func Watch(ctx context.Context, conn grpc.ClientConnInterface, service, instance string, set *Set, log *slog.Logger, first func()) {
	w := &watch{
		client:  knobv1.NewKnobServiceClient(conn),
		request: &knobv1.WatchKnobsRequest{Service: service, Instance: instance, Knobs: set.Declared()},
		set:     set, log: log, first: sync.OnceFunc(first),
	}
	for wait := firstWait; ; wait = min(2*wait, mostWait) {
		heard, err := w.once(ctx)
		if ctx.Err() != nil {
			return
		}
		if heard {
			wait = firstWait
		}
		if heard || !w.away {
			w.away = true
			log.Warn("the control plane is away, knobs keep their values", "error", err)
		}
		// Less up to a quarter by chance, so that replicas which lost it together do not come back together.
		timer := time.NewTimer(wait - rand.N(wait/4))
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return
		}
	}
}

type watch struct {
	client  knobv1.KnobServiceClient
	request *knobv1.WatchKnobsRequest
	set     *Set
	log     *slog.Logger
	first   func()
	away    bool
	last    map[string]string // the snapshot before
}

// once follows one stream to its end, and tells whether a snapshot came on it.
func (w *watch) once(ctx context.Context) (heard bool, err error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, err := w.client.WatchKnobs(ctx, w.request, grpc.WaitForReady(true))
	if err != nil {
		return false, err
	}
	for {
		snapshot, err := stream.Recv()
		if err != nil {
			return heard, err
		}
		heard = true
		values := snapshot.GetValues()
		if w.away {
			w.away = false
			w.log.Info("the control plane is back")
		}
		if !maps.Equal(w.last, values) {
			w.last = values
			w.log.Info("knobs are set", "values", values)
		}
		// First the replicas: a value that comes with them may be a share among them.
		w.set.SetReplicas(int(snapshot.GetReplicas()))
		if err := w.set.Apply(values); err != nil {
			w.log.Error("a knob keeps its value", "error", err)
		}
		w.first()
	}
}
