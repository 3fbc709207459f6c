package load

import (
	"context"
	"maps"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"

	"spillway.dev/platform/problem"
	gatewayv1 "spillway.dev/proto/gen/spillway/gateway/v1"
)

// mixed is an even load of a few seconds, by the shares of its journeys.
func mixed(people int, shares map[string]float64) Plan {
	p := Plan{Shape: Shape{Kind: "constant", Rate: 40}, For: 5 * time.Second, Arrivals: Constant, Seed: 5, People: people, Journeys: make(map[string]Journey)}
	for name, share := range shares {
		p.Journeys[name] = Journey{Share: share}
	}
	return p
}

// Where sessions cannot be had, those who only list the shows notice nothing.
func TestListingNeedsNoSession(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := mixed(30, map[string]float64{"list": 0.5, "seatmap": 0.3, "buy": 0.2})
		r := offer(t, p, &office{signIn: func(context.Context, *gatewayv1.SignInRequest) (*gatewayv1.SignInResponse, error) {
			return nil, problem.New(codes.Unavailable, problem.DependencyAway, "redis is away").With("dependency", "redis")
		}})
		addsUp(t, r)
		if j := r.Journeys["list"]; j.Offered == 0 || j.Good != j.Offered {
			t.Errorf("list: got %d good of %d, errors %v", j.Good, j.Offered, j.Errors)
		}
		for _, name := range []string{"seatmap", "buy"} {
			if j := r.Journeys[name]; j.Offered == 0 || j.Good != 0 || j.Errors[problem.DependencyAway] != j.Offered {
				t.Errorf("%s: got %d good of %d, errors %v", name, j.Good, j.Offered, j.Errors)
			}
		}
	})
}

func TestListingIsOneCall(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := offer(t, mixed(30, map[string]float64{"list": 1}), &office{})
		want := map[string]int64{"SignIn": 0, "ListShows": r.Offered, "GetSeatMap": 0, "Checkout": 0, "GetOrder": 0}
		if r.Offered == 0 || r.Good != r.Offered || !maps.Equal(r.Requests, want) {
			t.Errorf("got %d good of %d, requests %v, want %v", r.Good, r.Offered, r.Requests, want)
		}
	})
}

func TestWhoHasASessionListsWithIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var signedIn atomic.Bool
		var with, without atomic.Int64
		small := &office{}
		r := offer(t, mixed(1, map[string]float64{"list": 0.9, "seatmap": 0.1}), &office{
			signIn: func(ctx context.Context, req *gatewayv1.SignInRequest) (*gatewayv1.SignInResponse, error) {
				signedIn.Store(true)
				return small.SignIn(ctx, req)
			},
			list: func(ctx context.Context) (*gatewayv1.ListShowsResponse, error) {
				md, _ := metadata.FromOutgoingContext(ctx)
				if has := len(md.Get("authorization")) == 1; has {
					with.Add(1)
				} else if without.Add(1); signedIn.Load() {
					t.Error("somebody who has a session listed without it")
				}
				return small.ListShows(ctx, nil)
			},
		})
		if r.Good != r.Offered || with.Load() == 0 || without.Load() == 0 {
			t.Errorf("got %d good of %d, %d lists with a session and %d before there was one", r.Good, r.Offered, with.Load(), without.Load())
		}
	})
}

func TestAnEmptyListServesNobody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := offer(t, mixed(30, map[string]float64{"list": 0.5, "browse": 0.5}), &office{list: func(context.Context) (*gatewayv1.ListShowsResponse, error) {
			return &gatewayv1.ListShowsResponse{}, nil
		}})
		if r.Offered == 0 || r.Errors[NothingOnSale] != r.Offered || len(r.Journeys) != 2 {
			t.Errorf("got errors %v of %d journeys of %d kinds", r.Errors, r.Offered, len(r.Journeys))
		}
	})
}
