package fault

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strconv"
	"sync"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/timestamppb"

	"spillway.dev/platform/knobs"
	"spillway.dev/platform/mesh"
	faultv1 "spillway.dev/proto/gen/spillway/fault/v1"
	knobv1 "spillway.dev/proto/gen/spillway/knob/v1"
)

// Mesh is what faults are injected into: the local engine. Setters replace what was set before; errors carry a gRPC
// status.
type Mesh interface {
	// SetMeshFaults sets the faults that callers inject, by callee.
	SetMeshFaults(faults map[string][]mesh.Fault)
	// SetKnobs sets the values of knobs, by service and name.
	SetKnobs(knobs map[string]map[string]string)
	// SetEndpointUpdates makes callers hear late of endpoints, or not at all.
	SetEndpointUpdates(delay time.Duration, drop bool)
	// Pause stops n replicas that are not paused, the oldest first, and returns the names of those that it could stop.
	Pause(workload string, n int) ([]string, error)
	// Resume lets n paused replicas go on, the oldest first.
	Resume(workload string, n int) ([]string, error)
	// Kill ends n replicas, the oldest first.
	Kill(workload string, n int) ([]string, error)
	// StopStore stops a store, which stays down until StartStore.
	StopStore(ctx context.Context, name string) error
	StartStore(ctx context.Context, name string) error
}

const (
	// mendTimeout bounds one try to end a fault whose time is over; mendAgain is the wait before the next.
	mendTimeout = 30 * time.Second
	mendAgain   = time.Second
	// askTimeout bounds a question to the control plane, which may just be starting again.
	askTimeout = 5 * time.Second
)

// Injector begins and ends faults, and sets knobs by hand. It is safe for concurrent use. Its errors carry a gRPC status.
type Injector struct {
	target Mesh
	ledger knobv1.KnobServiceClient
	log    *slog.Logger

	ctx  context.Context // ends with Close: ends of faults that are under way
	stop context.CancelFunc

	steer sync.Mutex      // held while the mesh is changed, which may take seconds for a store
	down  map[string]bool // stores that were stopped; guarded by steer

	mu       sync.Mutex
	active   []*active // in the order in which they began
	set      values    // by hand
	defaults values
	last     int // id
	closed   bool
}

// active is a fault in force.
type active struct {
	id          string
	fault       Fault
	began, ends time.Time // ends is zero until it is cleared
	timer       *time.Timer
	paused      int // replicas that it paused
}

// NewInjector returns an injector without faults. Knobs are checked against what the mesh's replicas have declared to
// ledger, the control plane's KnobService.
func NewInjector(target Mesh, ledger knobv1.KnobServiceClient, log *slog.Logger) *Injector {
	ctx, stop := context.WithCancel(context.Background())
	return &Injector{
		target: target, ledger: ledger, log: log, ctx: ctx, stop: stop,
		down: make(map[string]bool), set: make(values), defaults: make(values),
	}
}

// Begin begins a fault that ends after d, or with 0 when it is cleared. A kill is done at once, has no duration, and is
// not in force afterwards. When part of the mesh refuses the fault, it is undone.
func (i *Injector) Begin(ctx context.Context, f Fault, d time.Duration) (*faultv1.ActiveFault, error) {
	if err := f.Validate(); err != nil {
		return nil, status.Error(codes.InvalidArgument, err.Error())
	}
	switch {
	case d < 0:
		return nil, status.Errorf(codes.InvalidArgument, "duration %v is not allowed, give 0s (until it is cleared) or more", d)
	case f.Kill != nil && d != 0:
		return nil, status.Errorf(codes.InvalidArgument, "a kill has no duration, leave %v out", d)
	}
	turns, err := i.learn(ctx, f)
	if err != nil {
		return nil, err
	}
	i.steer.Lock()
	defer i.steer.Unlock()
	a, err := i.admit(f, d)
	if err != nil {
		return nil, err
	}
	if err := i.begin(ctx, a, turns); err != nil {
		i.remove(a)
		return nil, errors.Join(err, i.push(ctx))
	}
	i.log.Info("a fault begins", "id", a.id, "fault", f.String(), "for", d.String())
	i.mu.Lock()
	defer i.mu.Unlock()
	if d > 0 {
		a.timer = time.AfterFunc(d, func() { i.expire(a) })
	}
	return a.proto(), nil
}

// admit gives the fault its id, and puts it among those in force unless it is a kill.
func (i *Injector) admit(f Fault, d time.Duration) (*active, error) {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.closed {
		return nil, status.Error(codes.Unavailable, "the mesh ends, no fault begins any more")
	}
	i.last++
	a := &active{id: strconv.Itoa(i.last), fault: f, began: time.Now()}
	if d > 0 {
		a.ends = a.began.Add(d)
	}
	if f.Kill != nil {
		a.ends = a.began
		return a, nil
	}
	i.active = append(i.active, a)
	return a, nil
}

func (i *Injector) begin(ctx context.Context, a *active, turns turned) error {
	switch f := a.fault; {
	case f.Kill != nil:
		_, err := i.target.Kill(f.Kill.Service, f.Kill.count())
		return err
	case f.Pause != nil:
		names, err := i.target.Pause(f.Pause.Service, f.Pause.count())
		a.paused = len(names)
		return err
	}
	if turns.knob != nil {
		// Together with what is in force already it may be more than the knob takes.
		if err := knobs.Check(turns.knob, i.demand().knobs.get(turns.service, turns.knob.GetName())); err != nil {
			return status.Errorf(codes.InvalidArgument, "%v cannot begin: %v", a.fault, err)
		}
	}
	return i.push(ctx)
}

// demand is what the faults in force and the knobs that were set demand together.
func (i *Injector) demand() demand {
	i.mu.Lock()
	defer i.mu.Unlock()
	faults := make([]Fault, len(i.active))
	for n, a := range i.active {
		faults[n] = a.fault
	}
	return compose(faults, i.set, i.defaults)
}

// push makes the mesh what is demanded of it. It is called with steer held.
func (i *Injector) push(ctx context.Context) error {
	want := i.demand()
	i.target.SetMeshFaults(want.mesh)
	i.target.SetKnobs(want.knobs)
	i.target.SetEndpointUpdates(want.late, want.drop)
	var failed error
	for _, name := range []string{Redis, NATS} {
		var err error
		switch {
		case want.down[name] && !i.down[name]:
			err = i.target.StopStore(ctx, name)
		case !want.down[name] && i.down[name]:
			err = i.target.StartStore(ctx, name)
		default:
			continue
		}
		if err != nil {
			failed = errors.Join(failed, err)
			continue
		}
		i.down[name] = want.down[name]
	}
	return failed
}

// end takes a fault out of force. When that fails it stays in force. It is called with steer held.
func (i *Injector) end(ctx context.Context, a *active) error {
	if a.fault.Pause != nil && a.paused > 0 {
		// Fewer may be left: a paused replica that fails its liveness probe is replaced.
		if _, err := i.target.Resume(a.fault.Pause.Service, a.paused); err != nil && status.Code(err) != codes.NotFound {
			return err
		}
		a.paused = 0
	}
	at := i.remove(a)
	if err := i.push(ctx); err != nil {
		i.mu.Lock()
		i.active = slices.Insert(i.active, at, a)
		i.mu.Unlock()
		return err
	}
	i.log.Info("a fault ends", "id", a.id, "fault", a.fault.String())
	return nil
}

// remove takes a fault off the list, and returns where it was.
func (i *Injector) remove(a *active) int {
	i.mu.Lock()
	defer i.mu.Unlock()
	at := slices.Index(i.active, a)
	if at >= 0 {
		i.active = slices.Delete(i.active, at, at+1)
	}
	return at
}

// expire ends a fault whose time is over, and tries again for as long as that fails.
func (i *Injector) expire(a *active) {
	i.steer.Lock()
	defer i.steer.Unlock()
	if !i.inForce(a) {
		return
	}
	ctx, cancel := context.WithTimeout(i.ctx, mendTimeout)
	defer cancel()
	if err := i.end(ctx, a); err != nil {
		i.log.Error("a fault whose time is over cannot be ended yet", "id", a.id, "fault", a.fault.String(), "error", err)
		i.mu.Lock()
		defer i.mu.Unlock()
		a.timer.Reset(mendAgain)
	}
}

// inForce tells whether a fault was not cleared, nor is about to be.
func (i *Injector) inForce(a *active) bool {
	i.mu.Lock()
	defer i.mu.Unlock()
	return !i.closed && slices.Contains(i.active, a)
}

// Clear ends a fault before its time, every fault when id is empty, and returns those that it ended. Faults that
// cannot be ended stay in force and are told in the error.
func (i *Injector) Clear(ctx context.Context, id string) ([]*faultv1.ActiveFault, error) {
	i.steer.Lock()
	defer i.steer.Unlock()
	i.mu.Lock()
	var found []*active
	var ids []string
	for _, a := range i.active {
		ids = append(ids, a.id)
		if id == "" || a.id == id {
			found = append(found, a)
		}
	}
	i.mu.Unlock()
	if id != "" && len(found) == 0 {
		if len(ids) == 0 {
			return nil, status.Errorf(codes.NotFound, "no fault %q is in force, none is", id)
		}
		return nil, status.Errorf(codes.NotFound, "no fault %q is in force, these are: %s", id, join(ids))
	}
	var cleared []*faultv1.ActiveFault
	var failed error
	for _, a := range found {
		if err := i.end(ctx, a); err != nil {
			failed = errors.Join(failed, fmt.Errorf("fault %s, %v, cannot be ended: %w", a.id, a.fault, err))
			continue
		}
		i.mu.Lock()
		if a.timer != nil {
			a.timer.Stop()
		}
		cleared = append(cleared, a.proto())
		i.mu.Unlock()
	}
	return cleared, failed
}

// List returns the faults in force, in the order in which they began.
func (i *Injector) List() []*faultv1.ActiveFault {
	i.mu.Lock()
	defer i.mu.Unlock()
	out := make([]*faultv1.ActiveFault, len(i.active))
	for n, a := range i.active {
		out[n] = a.proto()
	}
	return out
}

// Close clears every fault, puts every knob back, and lets nothing begin any more.
func (i *Injector) Close(ctx context.Context) error {
	i.mu.Lock()
	i.closed = true
	i.mu.Unlock()
	i.stop()
	_, err := i.Clear(ctx, "")
	err = errors.Join(err, i.ResetKnobs(ctx))
	i.mu.Lock()
	defer i.mu.Unlock()
	for _, a := range i.active { // those that could not be ended
		if a.timer != nil {
			a.timer.Stop()
		}
	}
	return err
}

func (a *active) proto() *faultv1.ActiveFault {
	out := &faultv1.ActiveFault{Id: a.id, Fault: a.fault.Proto(), Text: a.fault.String(), BeganAt: timestamppb.New(a.began)}
	if !a.ends.IsZero() {
		out.EndsAt = timestamppb.New(a.ends)
	}
	return out
}
