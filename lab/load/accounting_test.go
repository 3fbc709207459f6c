package load

import (
	"context"
	"errors"
	"math/rand/v2"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"spillway.dev/platform/problem"
	gatewayv1 "spillway.dev/proto/gen/spillway/gateway/v1"
)

// addsUp checks that every journey of a record ended in exactly one way: in
// whole, in every second, and by journey and priority.
func addsUp(t *testing.T, r *Record) {
	t.Helper()
	check := func(what string, c Counts) {
		t.Helper()
		if ended := c.Good + c.Refused + c.Shed + c.Late + c.Failed(); ended != c.Offered {
			t.Errorf("%s: %d journeys were offered and %d ended: %+v", what, c.Offered, ended, c)
		}
	}
	whole := Counts{Offered: r.Offered, Good: r.Good, Late: r.Late, Refused: sum(r.Refused), Shed: sum(r.Shed), Errors: r.Errors}
	check("whole", whole)
	var seconds, journeys, levels Counts
	add := func(to *Counts, c Counts) {
		to.Offered, to.Good, to.Late, to.Refused, to.Shed = to.Offered+c.Offered, to.Good+c.Good, to.Late+c.Late, to.Refused+c.Refused, to.Shed+c.Shed
		for reason, n := range c.Errors {
			if to.Errors == nil {
				to.Errors = make(map[string]int64)
			}
			to.Errors[reason] += n
		}
	}
	var latency, lag int64
	for i, s := range r.Seconds {
		if s.Second != i {
			t.Errorf("second %d stands at %d", s.Second, i)
		}
		check("second", s.Counts)
		add(&seconds, s.Counts)
		var parts Counts
		for name, c := range s.ByJourney {
			check(name, c)
			add(&parts, c)
		}
		for name, c := range s.ByPriority {
			check(name, c)
		}
		if parts.Offered != s.Offered || parts.Good != s.Good || sum(s.RefusedBy) != s.Refused || sum(s.ShedBy) != s.Shed {
			t.Errorf("second %d: its parts do not add up: %+v", i, s)
		}
		if s.Latency.Count != s.Good+s.Late+s.Refused {
			t.Errorf("second %d: %d latencies of %d answered journeys", i, s.Latency.Count, s.Good+s.Late+s.Refused)
		}
		latency, lag = latency+s.Latency.Count, lag+s.Lag.Count
	}
	for name, j := range r.Journeys {
		check(name, j.Counts)
		add(&journeys, j.Counts)
	}
	for name, c := range r.Priorities {
		check(name, c)
		add(&levels, c)
	}
	for what, c := range map[string]Counts{"seconds": seconds, "journeys": journeys, "priorities": levels} {
		if c.Offered != whole.Offered || c.Good != whole.Good || c.Late != whole.Late || c.Refused != whole.Refused || c.Shed != whole.Shed || c.Failed() != whole.Failed() {
			t.Errorf("the %s add up to %+v, the whole is %+v", what, c, whole)
		}
	}
	if r.Latency.Count != latency || r.Lag.Count != lag {
		t.Errorf("%d latencies and %d lags in whole, %d and %d in the seconds", r.Latency.Count, r.Lag.Count, latency, lag)
	}
	all, err := r.Between(0, time.Hour)
	if err != nil || all != r.Latency {
		t.Errorf("the seconds together have the latency %+v, %v; the whole has %+v", all, err, r.Latency)
	}
	if all, err := r.LagBetween(0, time.Hour); err != nil || all != r.Lag {
		t.Errorf("the seconds together have the lag %+v, %v; the whole has %+v", all, err, r.Lag)
	}
	if first, err := r.LagBetween(0, time.Second); len(r.Seconds) > 0 && (err != nil || first != r.Seconds[0].Lag) {
		t.Errorf("the first second has the lag %+v, %v; it says %+v", first, err, r.Seconds[0].Lag)
	}
}

// moody answers as chance has it: at once, in time, around the deadline, late,
// with every kind of error, or not until it is released.
func moody(seed uint64, release <-chan struct{}) *office {
	var mu sync.Mutex
	rng := rand.New(rand.NewPCG(seed, 1))
	mood := func(ctx context.Context) error {
		mu.Lock()
		what, wait := rng.IntN(12), time.Duration(rng.Int64N(int64(60*time.Millisecond)))
		mu.Unlock()
		switch what {
		case 0:
			return problem.New(codes.ResourceExhausted, problem.Overloaded, "full").Retry(0)
		case 1:
			return problem.New(codes.DeadlineExceeded, problem.DeadlineTooShort, "no time")
		case 2:
			return status.Error(codes.ResourceExhausted, "bare")
		case 3:
			return problem.New(codes.Unauthenticated, problem.SessionInvalid, "sign in again")
		case 4:
			return status.Error(codes.Unavailable, "away")
		case 5:
			return problem.New(codes.FailedPrecondition, "CARD_DECLINED", "no")
		case 6:
			time.Sleep(wait) // deaf to its deadline, as a client in a long collection is
			return nil
		case 7:
			if seed%3 == 0 {
				<-release
			}
			return nil
		case 8:
			return errors.New("no status at all")
		case 9:
			<-ctx.Done()
			return ctx.Err()
		default:
			return pause(ctx, wait)
		}
	}
	small := &office{}
	return &office{
		signIn: func(ctx context.Context, req *gatewayv1.SignInRequest) (*gatewayv1.SignInResponse, error) {
			if err := mood(ctx); err != nil {
				return nil, err
			}
			return small.SignIn(ctx, req)
		},
		list: func(ctx context.Context) (*gatewayv1.ListShowsResponse, error) {
			if err := mood(ctx); err != nil {
				return nil, err
			}
			return small.ListShows(ctx, nil)
		},
		seats: func(ctx context.Context, req *gatewayv1.GetSeatMapRequest) (*gatewayv1.GetSeatMapResponse, error) {
			if err := mood(ctx); err != nil {
				return nil, err
			}
			return small.GetSeatMap(ctx, req)
		},
		checkout: func(ctx context.Context, req *gatewayv1.CheckoutRequest) (*gatewayv1.CheckoutResponse, error) {
			if err := mood(ctx); err != nil {
				return nil, err
			}
			return small.Checkout(ctx, req)
		},
	}
}

func TestTheAccountAddsUpWhateverTheGatewayDoes(t *testing.T) {
	kinds := []string{"constant", "ramp", "step", "spike", "sine", "sawtooth", "csv"}
	for seed := range uint64(21) {
		synctest.Test(t, func(t *testing.T) {
			release := make(chan struct{})
			// Within the bubble's time, so that what was released ends in it.
			defer func() { close(release); <-time.After(time.Minute) }()
			p := Plan{
				Shape: shapes()[kinds[seed%7]], For: 8 * time.Second, Seed: seed, People: 3 + int(seed), Timelapse: 1 + float64(seed%4),
				Journeys: map[string]Journey{
					"browse":  {Share: 0.3, Deadline: 50 * time.Millisecond},
					"list":    {Share: 0.1, Deadline: 30 * time.Millisecond},
					"seatmap": {Share: 0.3, Deadline: 30 * time.Millisecond},
					"buy":     {Share: 0.3, Deadline: 90 * time.Millisecond},
				},
				Priorities: map[string]float64{"critical": 0.2, "standard": 0.5, "sheddable": 0.3},
			}
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			if seed%5 == 4 {
				time.AfterFunc(2500*time.Millisecond, cancel)
			}
			r, err := run(ctx, p, inProcess{office: moody(seed, release)}, nil, timerAlarm)
			if err != nil {
				t.Fatal(err)
			}
			addsUp(t, r)
			want := int64(0)
			for range p.Schedule() {
				want++
			}
			if !r.CutShort && r.Offered != want || r.CutShort && r.Offered > want {
				t.Errorf("%d journeys were offered, %d were scheduled", r.Offered, want)
			}
			if length := int((r.ElapsedS*1000 + 999) / 1000); len(r.Seconds) != length {
				t.Errorf("%d seconds were recorded of %v", len(r.Seconds), r.ElapsedS)
			}
		})
	}
}

func TestAJourneyThatNeverReturnsIsAnErrorAndHoldsNothingUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		var calls atomic.Int64
		c := plan{Rate: 10, For: 3 * time.Second, People: 5, BrowseDeadline: time.Second, BuyDeadline: time.Second}.load()
		begin := time.Now()
		r := offer(t, c, &office{list: func(context.Context) (*gatewayv1.ListShowsResponse, error) {
			if calls.Add(1)%2 == 0 {
				<-release
			}
			return &gatewayv1.ListShowsResponse{Shows: []*gatewayv1.Show{{ShowId: "a"}}}, nil
		}})
		addsUp(t, r)
		if n := r.Errors[NoAnswer]; n == 0 || n != calls.Load()/2 || r.Good != r.Offered-n {
			t.Errorf("got %d without an answer, %d good of %d", n, r.Good, r.Offered)
		}
		if took := time.Since(begin); took > c.For+time.Second+2*grace {
			t.Errorf("the run took %s", took)
		}
		before := r.Good
		close(release) // what comes now comes too late to be counted
		synctest.Wait()
		if r.Good != before {
			t.Error("the record changed after it was given")
		}
	})
}

func TestOutcomes(t *testing.T) {
	for _, c := range []struct {
		err     error
		latency time.Duration
		want    outcome
		reason  string
	}{
		{nil, time.Second, good, ""},
		{nil, time.Second + 1, late, ""},
		{problem.New(codes.FailedPrecondition, "SEAT_TAKEN", ""), 2 * time.Second, refused, "SEAT_TAKEN"},
		{problem.New(codes.ResourceExhausted, problem.Overloaded, ""), 0, shed, "OVERLOADED"},
		{problem.New(codes.DeadlineExceeded, problem.DeadlineTooShort, ""), 0, shed, "DEADLINE_TOO_SHORT"},
		{problem.New(codes.FailedPrecondition, "QUOTA_EXCEEDED", "the end of an order"), 0, shed, "QUOTA_EXCEEDED"},
		{problem.New(codes.ResourceExhausted, "SOME_LIMIT", ""), 0, shed, "SOME_LIMIT"},
		{status.Error(codes.ResourceExhausted, "from a proxy"), 0, shed, "ResourceExhausted"},
		{problem.New(codes.ResourceExhausted, problem.MessageTooLarge, ""), 0, failed, "MESSAGE_TOO_LARGE"},
		{status.Error(codes.DeadlineExceeded, ""), 0, failed, "DEADLINE_EXCEEDED"},
		{context.DeadlineExceeded, 0, failed, "DEADLINE_EXCEEDED"},
		{status.Error(codes.Unavailable, ""), 0, failed, "DEPENDENCY_AWAY"},
		{errors.New("?"), 0, failed, "INTERNAL"},
	} {
		if got, reason := judge(c.err, c.latency, time.Second); got != c.want || reason != c.reason {
			t.Errorf("%v after %s: got outcome %d, %q, want %d, %q", c.err, c.latency, got, reason, c.want, c.reason)
		}
	}
}

// What nobody answered is told from what a service says, of itself or its store.
func TestUnanswered(t *testing.T) {
	for _, c := range []struct {
		err  error
		want bool
	}{
		{status.Error(codes.Unavailable, "error reading from server: EOF"), true},
		{problem.New(codes.Unavailable, problem.DependencyAway, "the gateway says it of a service"), true},
		{problem.New(codes.Unavailable, problem.DependencyAway, "").With("dependency", "inventory"), true},
		{problem.New(codes.Unavailable, problem.DependencyAway, "").With("dependency", "redis"), false},
		{problem.New(codes.Unavailable, problem.DependencyAway, "").With("dependency", "nats"), false},
		{problem.New(codes.Aborted, "SEATS_UNRESOLVED", "").With("dependency", "inventory"), true},
		{problem.New(codes.Aborted, "SEATS_UNRESOLVED", "").With("dependency", "redis"), false},
		{problem.New(codes.Aborted, "SEATS_UNRESOLVED", "inventory was slow, or full"), false},
		{problem.New(codes.Aborted, "PAYMENT_UNRESOLVED", "").With("dependency", "bank"), true},
		{problem.New(codes.Aborted, "ORDER_ABANDONED", ""), true},
		{problem.New(codes.Aborted, "ORDER_TIMED_OUT", ""), false},
		{status.Error(codes.Canceled, ""), true},
		{status.Error(codes.Internal, "stream terminated by RST_STREAM"), true},
		{problem.New(codes.Internal, problem.Internal, ""), false},
		{context.DeadlineExceeded, false},
		{problem.New(codes.ResourceExhausted, problem.Overloaded, ""), false},
		{problem.New(codes.Unavailable, OrderUnfinished, ""), false},
	} {
		if got := unanswered(c.err); got != c.want {
			t.Errorf("%v: %t, want %t", c.err, got, c.want)
		}
	}
}

// A gateway that goes away is used again soon after it is back, and everything
// in between is accounted for.
func TestAGatewayGoesAwayAndComesBack(t *testing.T) {
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := lis.Addr().String()
	var served atomic.Int64
	o := &office{seats: func(_ context.Context, req *gatewayv1.GetSeatMapRequest) (*gatewayv1.GetSeatMapResponse, error) {
		served.Add(1)
		return house(req.ShowId, strings.Repeat(".", 99)), nil
	}}
	var servers sync.WaitGroup
	serve := func(lis net.Listener) *grpc.Server {
		srv := grpc.NewServer()
		gatewayv1.RegisterGatewayServiceServer(srv, o)
		servers.Go(func() { _ = srv.Serve(lis) })
		return srv
	}
	srv := serve(lis)
	conns, err := Dial(address)
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	ticks := make(chan Tick, 100)
	var record *Record
	var done sync.WaitGroup
	done.Go(func() {
		c := plan{Rate: 200, For: time.Hour, People: 10, BrowseDeadline: 5 * time.Second, BuyDeadline: time.Second}.load()
		r, err := Run(ctx, c, gatewayv1.NewGatewayServiceClient(conns), func(tick Tick) { ticks <- tick })
		if err != nil {
			t.Error(err)
		}
		record = r
	})
	eventually(t, "journeys are served", func() bool { return served.Load() > 50 })
	srv.Stop()
	eventually(t, "journeys fail", func() bool { return (<-ticks).Errors[problem.DependencyAway] > 50 })
	var again net.Listener
	eventually(t, "the address is free again", func() bool {
		again, err = net.Listen("tcp", address)
		return err == nil
	})
	srv = serve(again)
	before := served.Load()
	eventually(t, "journeys are served again", func() bool { return served.Load() > before+50 })
	stop()
	done.Wait()
	srv.Stop()
	servers.Wait()
	if err := conns.Close(); err != nil {
		t.Error(err)
	}
	addsUp(t, record)
	if record.Errors[problem.DependencyAway] == 0 || record.Good < 50 || !record.CutShort {
		t.Errorf("got errors %v, %d good of %d", record.Errors, record.Good, record.Offered)
	}
}
