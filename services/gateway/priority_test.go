package main

import (
	"context"
	"slices"
	"strings"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/types/known/timestamppb"

	"spillway.dev/platform/criticality"
	"spillway.dev/platform/problem"
	catalogv1 "spillway.dev/proto/gen/spillway/catalog/v1"
	gatewayv1 "spillway.dev/proto/gen/spillway/gateway/v1"
	orderv1 "spillway.dev/proto/gen/spillway/order/v1"
	sessionv1 "spillway.dev/proto/gen/spillway/session/v1"
)

// everybody is a mesh in which everybody may sign in, with "tok:" and the name as the session's own token. asked gets the
// service and the priority of every call.
func everybody(asked chan<- string) *mesh {
	saw := func(ctx context.Context, service string) {
		asked <- service + " " + strings.Join(metadata.ValueFromIncomingContext(ctx, criticality.Header), "+")
	}
	return &mesh{
		signIn: func(ctx context.Context, req *sessionv1.SignInRequest) (*sessionv1.SignInResponse, error) {
			saw(ctx, "session")
			return &sessionv1.SignInResponse{Token: "tok:" + req.GetPersonId(), ExpiresAt: timestamppb.New(sessionEnd)}, nil
		},
		touch: func(ctx context.Context, req *sessionv1.TouchRequest) (*sessionv1.TouchResponse, error) {
			saw(ctx, "session")
			person, ok := strings.CutPrefix(req.GetToken(), "tok:")
			if !ok {
				return nil, problem.New(codes.Unauthenticated, problem.SessionInvalid, "no such session")
			}
			return &sessionv1.TouchResponse{PersonId: person}, nil
		},
		catalog: catalogStub{
			list: func(ctx context.Context, _ *catalogv1.ListShowsRequest) (*catalogv1.ListShowsResponse, error) {
				saw(ctx, "catalog")
				return &catalogv1.ListShowsResponse{}, nil
			},
			seats: func(ctx context.Context, _ *catalogv1.GetSeatMapRequest) (*catalogv1.GetSeatMapResponse, error) {
				saw(ctx, "catalog")
				return &catalogv1.GetSeatMapResponse{}, nil
			},
		},
		order: orderStub{checkout: func(ctx context.Context, _ *orderv1.CheckoutRequest) (*orderv1.CheckoutResponse, error) {
			saw(ctx, "order")
			return &orderv1.CheckoutResponse{}, nil
		}},
	}
}

// told are the calls since the last time, as everybody's mesh saw them.
func told(asked <-chan string) (all []string) {
	for len(asked) > 0 {
		all = append(all, <-asked)
	}
	return all
}

// A person's class and band are the same from the sign-in on, at every service.
func TestAPersonsWholeJourneyHasOnePriority(t *testing.T) {
	asked := make(chan string, 100)
	g := start(t, everybody(asked))
	for person, class := range map[string]string{
		"ann": "standard", "ann.critical": "critical", "ann.sheddable": "sheddable", "ann.standard": "standard", "ann.critical.x": "standard",
	} {
		t.Run(person, func(t *testing.T) {
			in, err := g.rpc.SignIn(t.Context(), &gatewayv1.SignInRequest{PersonId: person})
			if err != nil {
				t.Fatal(err)
			}
			ctx := bearing(t.Context(), in.GetToken())
			if _, err := g.rpc.ListShows(ctx, &gatewayv1.ListShowsRequest{}); err != nil {
				t.Error(err)
			}
			if _, err := g.rpc.GetSeatMap(ctx, &gatewayv1.GetSeatMapRequest{ShowId: "opening-night"}); err != nil {
				t.Error(err)
			}
			if _, err := g.rpc.Checkout(ctx, checkout()); err != nil {
				t.Error(err)
			}
			calls := told(asked)
			_, priority, _ := strings.Cut(calls[0], " ")
			if got, _, ok := criticality.Parse(priority); !ok || got.String() != class {
				t.Errorf("the priority is %q, want class %s", priority, class)
			}
			services := []string{"session", "catalog", "session", "catalog", "session", "order"}
			if class == "critical" { // going before others takes a proof, even for what is public
				services = slices.Insert(services, 1, "session")
			}
			for i, service := range services {
				services[i] = service + " " + priority
			}
			if !slices.Equal(calls, services) {
				t.Errorf("the calls were %q, want %q", calls, services)
			}
		})
	}
}

// Whoever makes a claim up, or takes another person's, gets no further than the session service.
func TestAForgedClaimIsRefused(t *testing.T) {
	asked := make(chan string, 100)
	g := start(t, everybody(asked))
	own := claimOf("bob.sheddable")
	higher, other := own, own
	higher.class = criticality.Critical
	other.hash++
	for name, c := range map[string]claim{"another class": higher, "another band": other, "another person's": claimOf("ann.critical")} {
		t.Run(name, func(t *testing.T) {
			ctx := bearing(t.Context(), c.join("tok:bob.sheddable"))
			_, err := g.rpc.GetSeatMap(ctx, &gatewayv1.GetSeatMapRequest{ShowId: "opening-night"})
			refused(t, err, codes.Unauthenticated, problem.SessionInvalid)
			_, err = g.rpc.SignOut(ctx, &gatewayv1.SignOutRequest{Everywhere: true})
			refused(t, err, codes.Unauthenticated, problem.SessionInvalid)
			for _, call := range told(asked) {
				if !strings.HasPrefix(call, "session ") {
					t.Errorf("a forged claim came through to %s", call)
				}
			}
			// What is public is given to anybody, and nobody goes before others for having said so.
			if _, err := g.rpc.ListShows(ctx, &gatewayv1.ListShowsRequest{}); err != nil {
				t.Error(err)
			}
			if calls := told(asked); !strings.HasPrefix(calls[len(calls)-1], "catalog standard/") && c.class == criticality.Critical {
				t.Errorf("for a list the calls were %q, want it to be asked for as a stranger does", calls)
			}
		})
	}
}

// A token without a claim is standard until the session service has said whose it is.
func TestATokenWithoutAClaim(t *testing.T) {
	asked := make(chan string, 100)
	g := start(t, everybody(asked))
	for range 2 {
		if _, err := g.rpc.GetSeatMap(bearing(t.Context(), "tok:bob.sheddable"), &gatewayv1.GetSeatMapRequest{ShowId: "opening-night"}); err != nil {
			t.Fatal(err)
		}
	}
	calls := told(asked)
	if len(calls) != 4 || !strings.HasPrefix(calls[0], "session standard/") || !strings.HasPrefix(calls[1], "catalog sheddable/") ||
		!slices.Equal(calls[:2], calls[2:]) {
		t.Errorf("the calls were %q, want standard for session, then bob's own, and the same again", calls)
	}
}

func FuzzSplitClaim(f *testing.F) {
	for _, token := range []string{"", "a", claimOf("ann").join("x"), "critical-00000000.", "critical-0000000g.x", "standard-1.x", "high-00000000.x", ".x"} {
		f.Add(token)
	}
	f.Fuzz(func(t *testing.T, token string) {
		c, rest := splitClaim(token)
		if got := c.join(rest); got != token {
			t.Errorf("%q is taken apart as %+v and %q, which make %q", token, c, rest, got)
		}
		if c.class > criticality.Sheddable {
			t.Errorf("%q claims class %v", token, c.class)
		}
	})
}
