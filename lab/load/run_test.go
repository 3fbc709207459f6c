package load

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"spillway.dev/platform/problem"
	gatewayv1 "spillway.dev/proto/gen/spillway/gateway/v1"
)

// pause waits in the time of the test's bubble, as a slow server does.
func pause(ctx context.Context, d time.Duration) error {
	select {
	case <-time.After(d):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// plan writes a steady load shortly.
type plan struct {
	Rate                        float64
	For                         time.Duration
	Seed                        uint64
	BuyRatio                    float64
	People                      int
	BrowseDeadline, BuyDeadline time.Duration
}

func (p plan) load() Plan {
	return Plan{
		Shape: Shape{Kind: "constant", Rate: p.Rate}, For: p.For, Seed: p.Seed, People: p.People,
		Journeys: map[string]Journey{
			"browse": {Share: 1 - p.BuyRatio, Deadline: p.BrowseDeadline},
			"buy":    {Share: p.BuyRatio, Deadline: p.BuyDeadline},
		},
	}
}

// offer puts the load on an office in the time of the test's bubble.
func offer(t *testing.T, c Plan, o *office) *Record {
	t.Helper()
	r, err := run(t.Context(), c, inProcess{office: o}, nil, timerAlarm)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func near(got, want float64) bool { return got > want*0.998 && got < want*1.002 } // three digits

func TestLoadIsOpenLoop(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		// Every answer takes a second, yet arrivals keep to their schedule.
		c := plan{Rate: 50, For: 10 * time.Second, Seed: 3, People: 20, BrowseDeadline: 5 * time.Second, BuyDeadline: 5 * time.Second}.load()
		want := int64(len(slices.Collect(c.Schedule())))
		var inside, most atomic.Int64
		r := offer(t, c, &office{list: func(ctx context.Context) (*gatewayv1.ListShowsResponse, error) {
			most.Store(max(most.Load(), inside.Add(1)))
			defer inside.Add(-1)
			return &gatewayv1.ListShowsResponse{Shows: []*gatewayv1.Show{{ShowId: "a"}}}, pause(ctx, time.Second)
		}})
		if r.Offered != want || r.Good != want || len(r.Errors) != 0 || r.CutShort || !r.Succeeded() {
			t.Errorf("got %d offered, %d good, errors %v, want %d of each and none", r.Offered, r.Good, r.Errors, want)
		}
		if most.Load() < 35 {
			t.Errorf("at most %d calls were under way, want about 50: the load waits for answers", most.Load())
		}
		if !near(r.Latency.P50, 1000) || !near(r.Latency.P999, 1000) || !r.Honest || r.Lag.Max > 0.001 {
			t.Errorf("got %+v and lag %+v, want 1000 ms and none", r.Latency, r.Lag)
		}
		if r.OfferedPerS != float64(want)/10 || r.GoodputPerS != r.OfferedPerS {
			t.Errorf("got %v /s offered and %v /s goodput, want %v", r.OfferedPerS, r.GoodputPerS, float64(want)/10)
		}
	})
}

// begun notes a journey of kind k that was meant to begin at.
func begun(rec *recorder, k Kind, at, lag time.Duration) Arrival {
	a := Arrival{Kind: k, At: at, Priority: Standard}
	rec.dispatch(a)
	rec.begin(a, lag)
	return a
}

func TestLatencyCountsFromTheIntendedBegin(t *testing.T) {
	rec := newRecorder()
	rec.end(begun(rec, Browse, 0, 40*time.Millisecond), 100*time.Millisecond, time.Second, nil)
	rec.end(begun(rec, Browse, 0, 0), 1100*time.Millisecond, time.Second, nil) // served, but too late
	rec.end(begun(rec, Buy, 0, 0), 3*time.Millisecond, time.Second, problem.New(codes.Unavailable, problem.DependencyAway, "x"))
	r := report(Default(), time.Now(), time.Second, false, newPeople(nil, "", 1, nil), rec)
	if !near(r.Lag.Max, 40) || r.Honest {
		t.Errorf("lag: got %+v, honest %v", r.Lag, r.Honest)
	}
	if r.Good != 1 || r.Late != 1 || r.Errors[problem.DependencyAway] != 1 {
		t.Errorf("got good %d, late %d, errors %v, want one of each", r.Good, r.Late, r.Errors)
	}
	if r.Latency.Count != 2 || !near(r.Latency.P50, 100) || !near(r.Latency.Max, 1100) {
		t.Errorf("latency of answered journeys: got %+v", r.Latency)
	}
}

// What is reserved is asked for until it is final, and counts then.
func TestAReservedOrderIsAskedFor(t *testing.T) {
	for name, c := range map[string]struct {
		asks     int64 // until it is final
		deadline time.Duration
		end      gatewayv1.OrderState
		good     bool
	}{
		"at the first":  {1, 10 * time.Second, gatewayv1.OrderState_ORDER_STATE_CONFIRMED, true},
		"at the fourth": {4, 10 * time.Second, gatewayv1.OrderState_ORDER_STATE_CONFIRMED, true},
		"refused":       {2, 10 * time.Second, gatewayv1.OrderState_ORDER_STATE_CANCELLED, false},
		"never in time": {1 << 40, 5 * time.Second, gatewayv1.OrderState_ORDER_STATE_CONFIRMED, false},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var mu sync.Mutex
				asked := make(map[string]int64)
				p := plan{Rate: 2, For: 5 * time.Second, Seed: 1, BuyRatio: 1, People: 3, BrowseDeadline: c.deadline, BuyDeadline: c.deadline}.load()
				r := offer(t, p, &office{
					checkout: func(_ context.Context, req *gatewayv1.CheckoutRequest) (*gatewayv1.CheckoutResponse, error) {
						return order(req, gatewayv1.OrderState_ORDER_STATE_PENDING, ""), nil
					},
					ask: func(_ context.Context, req *gatewayv1.GetOrderRequest) (*gatewayv1.GetOrderResponse, error) {
						mu.Lock()
						defer mu.Unlock()
						asked[req.OrderId]++
						state := gatewayv1.OrderState_ORDER_STATE_PENDING
						if asked[req.OrderId] >= c.asks {
							state = c.end
						}
						return &gatewayv1.GetOrderResponse{Order: &gatewayv1.Order{OrderId: req.OrderId, State: state, Reason: "CARD_DECLINED"}}, nil
					},
				})
				if (r.Good == r.Offered) != c.good || !c.good && r.Good != 0 || r.Requests["Checkout"] != r.Offered {
					t.Errorf("%d of %d good, %d checkouts; want all good: %v", r.Good, r.Offered, r.Requests["Checkout"], c.good)
				}
				if c.asks < 1<<40 && r.Requests["GetOrder"] != c.asks*r.Offered {
					t.Errorf("asked %d times for %d orders, want %d for each", r.Requests["GetOrder"], r.Offered, c.asks)
				}
			})
		})
	}
}

func TestEveryOutcomeIsCountedOnce(t *testing.T) {
	outcomes := []struct {
		answer  func(*gatewayv1.CheckoutRequest) (*gatewayv1.CheckoutResponse, error)
		refused string
		failed  string
	}{
		{func(r *gatewayv1.CheckoutRequest) (*gatewayv1.CheckoutResponse, error) {
			return order(r, gatewayv1.OrderState_ORDER_STATE_CONFIRMED, ""), nil
		}, "", ""},
		{func(*gatewayv1.CheckoutRequest) (*gatewayv1.CheckoutResponse, error) {
			return nil, problem.New(codes.FailedPrecondition, "SEAT_TAKEN", "taken")
		}, "SEAT_TAKEN", ""},
		{func(r *gatewayv1.CheckoutRequest) (*gatewayv1.CheckoutResponse, error) {
			return order(r, gatewayv1.OrderState_ORDER_STATE_CANCELLED, "CARD_DECLINED"), nil
		}, "CARD_DECLINED", ""},
		{func(r *gatewayv1.CheckoutRequest) (*gatewayv1.CheckoutResponse, error) {
			return order(r, gatewayv1.OrderState_ORDER_STATE_CANCELLED, "HOLD_EXPIRED"), nil
		}, "", "HOLD_EXPIRED"},
		{func(r *gatewayv1.CheckoutRequest) (*gatewayv1.CheckoutResponse, error) {
			return order(r, gatewayv1.OrderState_ORDER_STATE_UNSPECIFIED, ""), nil
		}, "", OrderUnfinished},
		{func(*gatewayv1.CheckoutRequest) (*gatewayv1.CheckoutResponse, error) {
			return nil, status.Error(codes.DataLoss, "bare")
		}, "", "DataLoss"},
		{func(*gatewayv1.CheckoutRequest) (*gatewayv1.CheckoutResponse, error) {
			return nil, problem.New(codes.FailedPrecondition, problem.IdempotencyKeyReused, "x")
		}, "", problem.IdempotencyKeyReused},
	}
	for i, o := range outcomes {
		synctest.Test(t, func(t *testing.T) {
			c := plan{Rate: 20, For: 5 * time.Second, Seed: 1, BuyRatio: 1, People: 3, BrowseDeadline: time.Second, BuyDeadline: time.Second}.load()
			r := offer(t, c, &office{checkout: func(_ context.Context, req *gatewayv1.CheckoutRequest) (*gatewayv1.CheckoutResponse, error) {
				return o.answer(req)
			}})
			good := r.Offered
			if o.refused != "" {
				good -= r.Refused[o.refused]
			}
			if o.failed != "" {
				good -= r.Errors[o.failed]
			}
			switch {
			case o.refused == "" && o.failed == "":
				if r.Good != r.Offered || r.Purchases != r.Offered || r.SeatsBought < r.Purchases {
					t.Errorf("outcome %d: got %d good and %d purchases of %d", i, r.Good, r.Purchases, r.Offered)
				}
			case good != 0 || r.Good != 0 || r.Succeeded():
				t.Errorf("outcome %d: got %d good, refused %v, errors %v of %d offered", i, r.Good, r.Refused, r.Errors, r.Offered)
			}
		})
	}
}

func TestAJourneyEndsAtItsDeadline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := plan{Rate: 5, For: 2 * time.Second, Seed: 1, People: 1, BrowseDeadline: 700 * time.Millisecond, BuyDeadline: time.Second}.load()
		begin := time.Now()
		r := offer(t, c, &office{list: func(ctx context.Context) (*gatewayv1.ListShowsResponse, error) {
			<-ctx.Done()
			return nil, ctx.Err()
		}})
		if r.Errors[problem.DeadlineExceeded] != r.Offered || r.Offered == 0 {
			t.Errorf("got errors %v of %d journeys", r.Errors, r.Offered)
		}
		if took := time.Since(begin); took > c.For+700*time.Millisecond {
			t.Errorf("the run took %s, want at most %s", took, c.For+700*time.Millisecond)
		}
	})
}

func TestAStoppedRunReportsWhatItMeasured(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
		defer cancel()
		c := plan{Rate: 50, For: time.Hour, Seed: 1, People: 5, BrowseDeadline: 2 * time.Second, BuyDeadline: 2 * time.Second}.load()
		r, err := run(ctx, c, inProcess{office: &office{list: func(ctx context.Context) (*gatewayv1.ListShowsResponse, error) {
			return &gatewayv1.ListShowsResponse{Shows: []*gatewayv1.Show{{ShowId: "a"}}}, pause(ctx, time.Second)
		}}}, nil, timerAlarm)
		if err != nil {
			t.Fatal(err)
		}
		if !r.CutShort || r.ElapsedS != 3 || r.Good != r.Offered || r.Offered < 100 {
			t.Errorf("got cut short %v after %v s, %d good of %d", r.CutShort, r.ElapsedS, r.Good, r.Offered)
		}
	})
}

func TestProgressComesEverySecondAndAddsUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := plan{Rate: 40, For: 10*time.Second + time.Millisecond, Seed: 1, People: 5, BrowseDeadline: time.Second, BuyDeadline: time.Second}.load()
		var ticks []Tick
		r, err := run(t.Context(), c, inProcess{office: &office{}}, func(tick Tick) { ticks = append(ticks, tick) }, timerAlarm)
		if err != nil {
			t.Fatal(err)
		}
		if len(ticks) != 10 {
			t.Fatalf("got %d ticks in 10 s", len(ticks))
		}
		offered := int64(0)
		for i, tick := range ticks {
			offered += tick.Offered
			if tick.Elapsed != time.Duration(i+1)*time.Second {
				t.Errorf("tick %d came after %s", i, tick.Elapsed)
			}
		}
		if offered > r.Offered || offered < r.Offered-1 {
			t.Errorf("the ticks count %d journeys, the report %d", offered, r.Offered)
		}
	})
}

func TestPeopleKeepTheirSessionAndSignInAgainWhenItIsLost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		valid := make(map[string]bool)
		signIns := 0
		o := &office{
			signIn: func(ctx context.Context, req *gatewayv1.SignInRequest) (*gatewayv1.SignInResponse, error) {
				if err := pause(ctx, 50*time.Millisecond); err != nil {
					return nil, err
				}
				mu.Lock()
				defer mu.Unlock()
				signIns++
				token := fmt.Sprintf("%s-%d", req.PersonId, signIns)
				valid["Bearer "+token] = true
				return &gatewayv1.SignInResponse{Token: token}, nil
			},
			seats: func(ctx context.Context, req *gatewayv1.GetSeatMapRequest) (*gatewayv1.GetSeatMapResponse, error) {
				md, _ := metadata.FromOutgoingContext(ctx)
				mu.Lock()
				defer mu.Unlock()
				if auth := md.Get("authorization"); len(auth) != 1 || !valid[auth[0]] {
					return nil, problem.New(codes.Unauthenticated, problem.SessionInvalid, "sign in again")
				}
				return house(req.ShowId, "."), nil
			},
		}
		time.AfterFunc(5*time.Second+time.Nanosecond, func() { mu.Lock(); clear(valid); mu.Unlock() })
		c := plan{Rate: 100, For: 10 * time.Second, Seed: 1, People: 7, BrowseDeadline: time.Second, BuyDeadline: time.Second}.load()
		r := offer(t, c, o)
		if r.Good != r.Offered {
			t.Errorf("got %d good of %d: %v", r.Good, r.Offered, r.Errors)
		}
		if signIns != 14 {
			t.Errorf("got %d sign-ins, want 14: seven people, twice each", signIns)
		}
		if r.SessionsLost < 7 {
			t.Errorf("got %d lost sessions, want at least 7", r.SessionsLost)
		}
	})
}

func TestSoldOutIsARuleOfTheBusiness(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := plan{Rate: 10, For: 3 * time.Second, Seed: 1, BuyRatio: 1, People: 7, BrowseDeadline: time.Second, BuyDeadline: time.Second}.load()
		r := offer(t, c, &office{seats: func(_ context.Context, req *gatewayv1.GetSeatMapRequest) (*gatewayv1.GetSeatMapResponse, error) {
			return house(req.ShowId, "xxx"), nil
		}})
		if r.Refused[SoldOut] != r.Offered || r.Requests["Checkout"] != 0 || len(r.Errors) != 0 {
			t.Errorf("got refused %v, errors %v, %d checkouts", r.Refused, r.Errors, r.Requests["Checkout"])
		}
	})
}

func TestIdempotencyKeysAreNewForEveryPurchaseAndEveryRun(t *testing.T) {
	keys := make(map[string]int)
	var mu sync.Mutex
	purchases := int64(0)
	for range 2 {
		synctest.Test(t, func(t *testing.T) {
			c := plan{Rate: 50, For: 2 * time.Second, Seed: 9, BuyRatio: 1, People: 7, BrowseDeadline: time.Second, BuyDeadline: time.Second}.load()
			r := offer(t, c, &office{checkout: func(_ context.Context, req *gatewayv1.CheckoutRequest) (*gatewayv1.CheckoutResponse, error) {
				mu.Lock()
				defer mu.Unlock()
				keys[req.IdempotencyKey]++
				return order(req, gatewayv1.OrderState_ORDER_STATE_CONFIRMED, ""), nil
			}})
			purchases += r.Purchases
		})
	}
	if int64(len(keys)) != purchases || purchases == 0 {
		t.Errorf("got %d keys for %d purchases", len(keys), purchases)
	}
}

func TestRunRefusesAConfigThatMakesNoSense(t *testing.T) {
	if _, err := Run(t.Context(), Plan{}, nil, nil); err == nil {
		t.Error("want an error")
	}
}

func TestRunOverRealGRPC(t *testing.T) {
	o := &office{}
	address := o.open(t)
	c := plan{Rate: 200, For: time.Second, BuyRatio: 0.5, People: 50, BrowseDeadline: 10 * time.Second, BuyDeadline: 10 * time.Second}.load()
	r, err := Run(t.Context(), c, gatewayv1.NewGatewayServiceClient(dial(t, address)), nil)
	if err != nil {
		t.Fatal(err)
	}
	if want := int64(len(slices.Collect(c.Schedule()))); r.Good != want || len(r.Errors) != 0 {
		t.Errorf("got %d good, errors %v, want %d and none", r.Good, r.Errors, want)
	}
	if r.Requests["SignIn"] > int64(c.People) || r.Requests["Checkout"] != r.Purchases {
		t.Errorf("got requests %v for %d people and %d purchases", r.Requests, c.People, r.Purchases)
	}
}
