package fault

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"spillway.dev/platform/mesh"
	faultv1 "spillway.dev/proto/gen/spillway/fault/v1"
	knobv1 "spillway.dev/proto/gen/spillway/knob/v1"
)

// stage is a mesh that notes what is asked of it.
type stage struct {
	mu     sync.Mutex
	faults map[string][]mesh.Fault
	knobs  map[string]map[string]string
	late   time.Duration
	drop   bool
	paused map[string]int
	killed []string
	down   map[string]bool
	fails  map[string]error // by what is asked: "start redis"
	tries  int              // to start a store
}

func newStage() *stage {
	return &stage{paused: map[string]int{}, down: map[string]bool{}, fails: map[string]error{}}
}

func (s *stage) SetMeshFaults(faults map[string][]mesh.Fault) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.faults = faults
}

func (s *stage) SetKnobs(knobs map[string]map[string]string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.knobs = knobs
}

func (s *stage) SetEndpointUpdates(late time.Duration, drop bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.late, s.drop = late, drop
}

func (s *stage) Pause(workload string, n int) ([]string, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.fails["pause "+workload]; err != nil {
		return nil, err
	}
	s.paused[workload] += n
	return make([]string, n), nil
}

func (s *stage) Resume(workload string, n int) ([]string, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if n == 0 {
		return nil, errors.New("this would resume every replica")
	}
	s.paused[workload] -= n
	return make([]string, n), s.fails["resume "+workload]
}

func (s *stage) Kill(workload string, n int) ([]string, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.killed = append(s.killed, fmt.Sprint(workload, n))
	return nil, s.fails["kill "+workload]
}

func (s *stage) StopStore(_ context.Context, name string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.fails["stop "+name]; err != nil {
		return err
	}
	if s.down[name] {
		return errors.New("it is stopped already")
	}
	s.down[name] = true
	return nil
}

func (s *stage) StartStore(ctx context.Context, name string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.tries++
	if err := errors.Join(s.fails["start "+name], ctx.Err()); err != nil {
		return err
	}
	delete(s.down, name)
	return nil
}

func (s *stage) fail(what string, err error) { s.mu.Lock(); defer s.mu.Unlock(); s.fails[what] = err }

// String is everything that is wrong with the mesh now.
func (s *stage) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	var out []string
	for _, callee := range slices.Sorted(maps.Keys(s.faults)) {
		out = append(out, fmt.Sprint(callee, ":", len(s.faults[callee])))
	}
	for _, service := range slices.Sorted(maps.Keys(s.knobs)) {
		for _, name := range slices.Sorted(maps.Keys(s.knobs[service])) {
			out = append(out, service+"."+name+"="+s.knobs[service][name])
		}
	}
	if s.late > 0 || s.drop {
		out = append(out, fmt.Sprint("endpoints ", s.late, " ", s.drop))
	}
	for workload, n := range s.paused {
		if n > 0 {
			out = append(out, fmt.Sprint("paused ", workload, n))
		}
	}
	for name := range s.down {
		out = append(out, "down "+name)
	}
	return strings.Join(append(out, s.killed...), ", ")
}

// ledger is what the replicas of a mesh declared.
type ledger struct {
	knobv1.KnobServiceClient
	err error
}

func (l ledger) ListKnobs(context.Context, *knobv1.ListKnobsRequest, ...grpc.CallOption) (*knobv1.ListKnobsResponse, error) {
	if l.err != nil {
		return nil, l.err
	}
	state := func(name, def, least, most string, kind knobv1.KnobType) *knobv1.KnobState {
		return &knobv1.KnobState{Knob: &knobv1.Knob{Name: name, Type: kind, Default: def, Minimum: least, Maximum: most}}
	}
	common := []*knobv1.KnobState{
		state(startKnob, "500ms", "0s", "1m", knobv1.KnobType_KNOB_TYPE_DURATION),
		state(slowdownKnob, "1", "0.1", "", knobv1.KnobType_KNOB_TYPE_FLOAT),
	}
	return &knobv1.ListKnobsResponse{Services: []*knobv1.ServiceKnobs{
		{Service: "bank", Knobs: append(slices.Clone(common), state(quotaKnob, "50", "1", "", knobv1.KnobType_KNOB_TYPE_INT))},
		{Service: "gateway", Knobs: common}, {Service: "order", Knobs: common},
	}}, nil
}

func newInjector(t *testing.T, target Mesh) *Injector {
	return NewInjector(target, ledger{}, slog.New(slog.NewTextHandler(t.Output(), nil)))
}

func begin(t *testing.T, i *Injector, f Fault, d time.Duration) *faultv1.ActiveFault {
	t.Helper()
	begun, err := i.Begin(t.Context(), f, d)
	if err != nil {
		t.Fatalf("%v: %v", f, err)
	}
	return begun
}

func is(t *testing.T, s *stage, want string) {
	t.Helper()
	if got := s.String(); got != want {
		t.Errorf("the mesh is %q, want %q", got, want)
	}
}

func words(faults []*faultv1.ActiveFault) string {
	var out []string
	for _, f := range faults {
		out = append(out, f.GetId()+" "+f.GetText())
	}
	return strings.Join(out, ", ")
}

var (
	latency   = Fault{Latency: &Edge{Caller: "gateway", Callee: "order", Delay: time.Second}}
	pauseTwo  = Fault{Pause: &Replicas{Service: "order", Replicas: 2}}
	pauseOne  = Fault{Pause: &Replicas{Service: "order"}}
	redisDown = Fault{Store: &Store{Redis}}
)

// TestEachEndsByItself: six faults, some on the same thing, each with its own time.
func TestEachEndsByItself(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStage()
		i := newInjector(t, s)
		begin(t, i, latency, 6*time.Second)
		begin(t, i, slow("order", 2), 4*time.Second)
		begin(t, i, slow("order", 3), 2*time.Second)
		begin(t, i, redisDown, 5*time.Second)
		begin(t, i, redisDown, 3*time.Second)
		begun := begin(t, i, pauseTwo, time.Second)
		begin(t, i, pauseOne, 7*time.Second)
		if got := begun.GetEndsAt().AsTime().Sub(begun.GetBeganAt().AsTime()); got != time.Second {
			t.Errorf("it is told to last %v, want 1s", got)
		}
		for second, want := range []string{
			"order:1, order.capacity.slowdown=6, paused order3, down redis",
			"order:1, order.capacity.slowdown=6, paused order1, down redis",
			"order:1, order.capacity.slowdown=2, paused order1, down redis",
			"order:1, order.capacity.slowdown=2, paused order1, down redis", // one of two that stopped it is left
			"order:1, paused order1, down redis",
			"order:1, paused order1",
			"paused order1",
			"",
		} {
			synctest.Wait()
			if got := s.String(); got != want {
				t.Errorf("after %d s the mesh is %q, want %q", second, got, want)
			}
			time.Sleep(time.Second)
		}
		if got := words(i.List()); got != "" {
			t.Errorf("still in force: %s", got)
		}
	})
}

func TestClear(t *testing.T) {
	s := newStage()
	i := newInjector(t, s)
	begin(t, i, latency, 0)
	begin(t, i, slow("order", 2), time.Hour)
	begin(t, i, redisDown, time.Hour)
	if got, want := words(i.List()), "1 latency 1s on gateway → order, 2 order slowed down 2×, 3 redis stopped"; got != want {
		t.Errorf("listed %q, want %q", got, want)
	}
	if _, err := i.Clear(t.Context(), "7"); status.Code(err) != codes.NotFound || !strings.Contains(err.Error(), "these are: 1, 2, 3") {
		t.Errorf("got %v", err)
	}
	cleared, err := i.Clear(t.Context(), "2")
	if err != nil || words(cleared) != "2 order slowed down 2×" {
		t.Errorf("cleared %q, %v", words(cleared), err)
	}
	is(t, s, "order:1, down redis")
	if cleared, err := i.Clear(t.Context(), ""); err != nil || len(cleared) != 2 {
		t.Errorf("cleared %q, %v", words(cleared), err)
	}
	is(t, s, "")
	if _, err := i.Clear(t.Context(), "2"); status.Code(err) != codes.NotFound || !strings.Contains(err.Error(), "none is") {
		t.Errorf("got %v", err)
	}
	if cleared, err := i.Clear(t.Context(), ""); err != nil || len(cleared) != 0 {
		t.Errorf("with nothing in force: %q, %v", words(cleared), err)
	}
}

func TestKillIsDoneAtOnce(t *testing.T) {
	s := newStage()
	i := newInjector(t, s)
	killed := begin(t, i, Fault{Kill: &Replicas{Service: "order", Replicas: 2}}, 0)
	is(t, s, "order2")
	if !killed.GetEndsAt().AsTime().Equal(killed.GetBeganAt().AsTime()) || len(i.List()) != 0 {
		t.Errorf("a kill is in force: %v", killed)
	}
	if _, err := i.Begin(t.Context(), Fault{Kill: &Replicas{Service: "order"}}, time.Second); status.Code(err) != codes.InvalidArgument {
		t.Errorf("a kill for a time: got %v", err)
	}
	s.fail("kill order", status.Error(codes.NotFound, "no replica runs"))
	if _, err := i.Begin(t.Context(), Fault{Kill: &Replicas{Service: "order"}}, 0); status.Code(err) != codes.NotFound {
		t.Errorf("got %v, want what the engine said", err)
	}
}

func TestWhatCannotBeginIsUndone(t *testing.T) {
	s := newStage()
	i := newInjector(t, s)
	s.fail("stop redis", status.Error(codes.FailedPrecondition, "it is miniredis"))
	s.fail("pause order", status.Error(codes.NotFound, "no workload order"))
	for name, c := range map[string]struct {
		fault Fault
		d     time.Duration
		want  codes.Code
		says  string
	}{
		"store":           {redisDown, 0, codes.FailedPrecondition, "miniredis"},
		"pause":           {pauseOne, 0, codes.NotFound, "no workload order"},
		"unknown callee":  {Fault{Errors: &Edge{Callee: "catalogue"}}, 0, codes.NotFound, `no service "catalogue" runs in the mesh, these do: bank, gateway, order`},
		"unknown caller":  {Fault{Errors: &Edge{Caller: "people", Callee: "order"}}, 0, codes.NotFound, `no service "people"`},
		"unknown service": {slow("people", 2), 0, codes.NotFound, `no service "people"`},
		"more than allowed": {Fault{SlowStart: &SlowStart{Service: "order", Delay: time.Minute}}, 0, codes.InvalidArgument,
			`"1m0.5s" is not allowed, give a duration such as 250ms, 0s to 1m`},
		"invalid":           {Fault{}, 0, codes.InvalidArgument, "a fault without a kind"},
		"negative duration": {latency, -1, codes.InvalidArgument, "duration -1ns is not allowed"},
	} {
		_, err := i.Begin(t.Context(), c.fault, c.d)
		if status.Code(err) != c.want || !strings.Contains(fmt.Sprint(err), c.says) {
			t.Errorf("%s: got %v, want %v that says %q", name, err, c.want, c.says)
		}
		if got := words(i.List()); got != "" {
			t.Errorf("%s: in force all the same: %s", name, got)
		}
		is(t, s, "")
	}
	away := NewInjector(s, ledger{err: status.Error(codes.Unavailable, "connection refused")}, i.log)
	if _, err := away.Begin(t.Context(), latency, 0); status.Code(err) != codes.Unavailable || !strings.Contains(err.Error(), "try again") {
		t.Errorf("without a control plane: got %v", err)
	}
}

// TestAStoreThatDoesNotStartIsTriedAgain: a fault is over only when the mesh is mended.
func TestAStoreThatDoesNotStartIsTriedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStage()
		i := newInjector(t, s)
		s.fail("start redis", errors.New("the port is taken"))
		begin(t, i, redisDown, time.Second)
		begin(t, i, latency, 0)
		time.Sleep(4*time.Second + time.Millisecond)
		synctest.Wait()
		if s.tries != 4 {
			t.Errorf("%d tries to start it in 3 s, want 4", s.tries)
		}
		if got := words(i.List()); got != "1 redis stopped, 2 latency 1s on gateway → order" {
			t.Errorf("in force: %s", got)
		}
		if _, err := i.Clear(t.Context(), "1"); err == nil || !strings.Contains(err.Error(), "fault 1, redis stopped, cannot be ended: the port is taken") {
			t.Errorf("got %v", err)
		}
		s.fail("start redis", nil)
		time.Sleep(time.Second)
		synctest.Wait()
		is(t, s, "order:1")
		if got := words(i.List()); got != "2 latency 1s on gateway → order" {
			t.Errorf("in force: %s", got)
		}
		// A workload that is gone leaves nobody to resume.
		s.fail("resume order", status.Error(codes.NotFound, "no workload order"))
		begin(t, i, pauseOne, time.Second)
		time.Sleep(time.Second)
		synctest.Wait()
		is(t, s, "order:1")
		if err := i.Close(t.Context()); err != nil {
			t.Error(err)
		}
	})
}

func TestCloseMendsEverything(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStage()
		i := newInjector(t, s)
		begin(t, i, latency, 0)
		begin(t, i, redisDown, time.Second)
		begin(t, i, pauseTwo, time.Hour)
		begin(t, i, Fault{Endpoints: &Endpoints{}}, time.Hour)
		if _, err := i.SetKnob(t.Context(), "bank", quotaKnob, "20"); err != nil {
			t.Fatal(err)
		}
		is(t, s, "order:1, bank.bank.quota_per_second=20, endpoints 0s true, paused order2, down redis")
		if err := i.Close(t.Context()); err != nil {
			t.Error(err)
		}
		is(t, s, "")
		if _, err := i.Begin(t.Context(), latency, 0); status.Code(err) != codes.Unavailable {
			t.Errorf("a fault after the end: got %v", err)
		}
		if _, err := i.SetKnob(t.Context(), "bank", quotaKnob, "20"); status.Code(err) != codes.Unavailable {
			t.Errorf("a knob after the end: got %v", err)
		}
		time.Sleep(2 * time.Hour) // no timer is left that would do anything
		is(t, s, "")
	})
}

// TestCloseTellsWhatStaysBroken, and leaves no timer behind.
func TestCloseTellsWhatStaysBroken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStage()
		i := newInjector(t, s)
		s.fail("start redis", errors.New("the port is taken"))
		begin(t, i, redisDown, time.Second)
		begin(t, i, latency, 0)
		if err := i.Close(t.Context()); err == nil || !strings.Contains(err.Error(), "redis stopped, cannot be ended") {
			t.Errorf("got %v", err)
		}
		tries := s.tries
		is(t, s, "down redis")
		time.Sleep(time.Minute)
		if s.tries != tries {
			t.Errorf("%d tries after the end", s.tries-tries)
		}
	})
}
