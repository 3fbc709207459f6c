package mesh

import (
	"context"
	"math"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
)

// catalogWith is a service with one replica and faults.
func catalogWith(r *replica, faults ...Fault) Service {
	return Service{Name: "catalog", Endpoints: endpoints(r), Faults: faults}
}

// mustCall calls and returns how long that took.
func mustCall(t *testing.T, c *client) time.Duration {
	t.Helper()
	begin := time.Now()
	if err := c.call(t.Context()); err != nil {
		t.Fatalf("a call failed: %v", err)
	}
	return time.Since(begin)
}

func TestFaultAbortsOneCallersCalls(t *testing.T) {
	plane, r := newPlane(t), newReplica(t, nil)
	set(t, plane, catalogWith(r))
	address := serve(t, plane, listen(t))
	gateway, order := dial(t, address, "gateway", "catalog"), dial(t, address, "order", "catalog")
	mustCall(t, gateway)
	mustCall(t, order)

	set(t, plane, catalogWith(r, Fault{Caller: "gateway", AbortCode: codes.Unavailable, AbortShare: 1}))
	eventually(t, "the gateway's calls to be aborted", func() bool { return gateway.call(t.Context()) != nil })
	calls := r.calls.Load()
	for range 100 {
		err := gateway.call(t.Context())
		if status.Code(err) != codes.Unavailable || !strings.Contains(err.Error(), "fault injection") {
			t.Fatalf("got %v, want Unavailable that says it was injected", err)
		}
	}
	if got := r.calls.Load(); got != calls {
		t.Errorf("%d aborted calls reached the replica", got-calls)
	}
	for range 100 {
		mustCall(t, order)
	}

	// Every caller, half of the calls: 400 draws have a standard deviation of 10.
	set(t, plane, catalogWith(r, Fault{AbortCode: codes.Unavailable, AbortShare: 0.5}))
	eventually(t, "the gateway's calls to be let through now and then", func() bool { return gateway.call(t.Context()) == nil })
	eventually(t, "order's calls to be aborted too", func() bool { return order.call(t.Context()) != nil })
	for name, c := range map[string]*client{"gateway": gateway, "order": order} {
		failed := 0
		for range 400 {
			if c.call(t.Context()) != nil {
				failed++
			}
		}
		if failed < 140 || failed > 260 {
			t.Errorf("%s: %d of 400 calls were aborted, want about 200", name, failed)
		}
	}

	set(t, plane, catalogWith(r))
	eventually(t, "50 calls in a row to go through", func() bool {
		for range 50 {
			if gateway.call(t.Context()) != nil {
				return false
			}
		}
		return true
	})
}

// TestFaultsAddUp: two delays on the same calls add up, and a call that is to fail waits first. Lower bounds only: how
// long a call takes on a busy host is not the mesh's to say.
func TestFaultsAddUp(t *testing.T) {
	const each = 60 * time.Millisecond
	plane, r := newPlane(t), newReplica(t, nil)
	set(t, plane, catalogWith(r))
	c := dial(t, serve(t, plane, listen(t)), "gateway", "catalog")
	mustCall(t, c)
	delay := Fault{Caller: "gateway", Delay: each, DelayShare: 1}
	set(t, plane, catalogWith(r, delay, Fault{Delay: each, DelayShare: 1}))
	eventually(t, "calls to wait for both delays", func() bool { return mustCall(t, c) >= 2*each })
	// From here on every call does; before, one may have met the configuration on its way.
	for range 5 {
		if took := mustCall(t, c); took < 2*each {
			t.Errorf("a call took %v, want at least %v", took, 2*each)
		}
	}
	// A deadline that is shorter than the delay ends the wait.
	ctx, cancel := context.WithTimeout(t.Context(), each/2)
	defer cancel()
	if err := c.call(ctx); status.Code(err) != codes.DeadlineExceeded {
		t.Errorf("got %v, want DeadlineExceeded", err)
	}

	set(t, plane, catalogWith(r, delay, Fault{AbortCode: codes.Unavailable, AbortShare: 1}))
	eventually(t, "calls to wait and fail", func() bool {
		begin := time.Now()
		err := c.call(t.Context())
		return status.Code(err) == codes.Unavailable && time.Since(begin) >= each
	})
	set(t, plane, catalogWith(r))
	eventually(t, "calls to go through at once", func() bool {
		begin := time.Now()
		return c.call(t.Context()) == nil && time.Since(begin) < each
	})
}

// TestFaultsOfOthersChangeNothing: a fault must not touch what other callers were sent, nor calls in flight.
func TestFaultsOfOthersChangeNothing(t *testing.T) {
	entered, release := make(chan struct{}), make(chan struct{})
	plane := newPlane(t)
	enter := sync.OnceFunc(func() { close(entered) })
	r := newReplica(t, func(context.Context) { enter(); <-release })
	set(t, plane, catalogWith(r))
	c := dial(t, serve(t, plane, listen(t)), "gateway", "catalog")
	answered := make(chan error, 1)
	go func() { answered <- c.call(context.Background()) }()
	<-entered
	set(t, plane, catalogWith(r, Fault{Caller: "gateway", AbortCode: codes.Unavailable, AbortShare: 1}))
	eventually(t, "new calls to be aborted", func() bool {
		// A call that gets past the fault would wait at the replica.
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
		defer cancel()
		return status.Code(c.call(ctx)) == codes.Unavailable
	})
	close(release)
	if err := <-answered; err != nil {
		t.Errorf("the call in flight failed: %v", err)
	}

	others := resourcesOf(catalogWith(r), "order")
	for _, fault := range []Fault{
		{Caller: "gateway", Delay: time.Second, DelayShare: 1},
		{Caller: "order", Delay: time.Second},                // of no call
		{Caller: "order", AbortCode: codes.Unavailable},      // of no call
		{Caller: "order", DelayShare: 1},                     // by no time
		{Caller: "order", DelayShare: 1, Delay: time.Second}, // the only one that changes something
	} {
		with := resourcesOf(catalogWith(r, fault), "order")
		for kind := range others {
			changed := !proto.Equal(others[kind], with[kind])
			if want := fault.Delay > 0 && fault.DelayShare > 0 && fault.Caller == "order" && strings.HasSuffix(kind, "Listener"); changed != want {
				t.Errorf("%+v: the %s is changed: %v, want %v", fault, shortType(kind), changed, want)
			}
		}
	}
}

func TestFaultsAreChecked(t *testing.T) {
	plane := newPlane(t)
	for want, fault := range map[string]Fault{
		"delay -1ns is not allowed":          {Delay: -1},
		"delay share 1.5 is not allowed":     {DelayShare: 1.5},
		"delay share NaN is not allowed":     {DelayShare: math.NaN()},
		"abort share -1 is not allowed":      {AbortShare: -1},
		"abort code Internal is not allowed": {AbortCode: codes.Internal},
		"abort share 0.5 without a code":     {AbortShare: 0.5},
	} {
		err := plane.Set(State{Services: []Service{{Name: "a", Faults: []Fault{fault}}}})
		if err == nil || !strings.Contains(err.Error(), `service "a": fault: `+want) {
			t.Errorf("got %v, want %q", err, want)
		}
	}
}
