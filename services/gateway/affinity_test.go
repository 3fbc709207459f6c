package main

import (
	"context"
	"encoding/json"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/types/known/timestamppb"

	"spillway.dev/platform/problem"
	catalogv1 "spillway.dev/proto/gen/spillway/catalog/v1"
	gatewayv1 "spillway.dev/proto/gen/spillway/gateway/v1"
	sessionv1 "spillway.dev/proto/gen/spillway/session/v1"
)

// replicas is a session service that keeps sessions as its replicas would with ring hash: behind the affinity key that
// the call came with. A call with another key, or none, finds nothing.
type replicas struct {
	mu    sync.Mutex
	known map[string]string // token → key
	calls []string          // the affinity values of each call, joined
}

func (r *replicas) saw(ctx context.Context) string {
	key := strings.Join(metadata.ValueFromIncomingContext(ctx, affinityHeader), "+")
	r.mu.Lock()
	defer r.mu.Unlock()
	r.calls = append(r.calls, key)
	return key
}

func (r *replicas) has(key, token string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	where, ok := r.known[token]
	return ok && where == key
}

func (r *replicas) put(key, token string) *timestamppb.Timestamp {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.known[token] = key
	return timestamppb.New(sessionEnd)
}

func (r *replicas) seen() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.calls)
}

func (r *replicas) mesh() *mesh {
	invalid := problem.New(codes.Unauthenticated, problem.SessionInvalid, "no such session on this replica")
	return &mesh{
		signIn: func(ctx context.Context, req *sessionv1.SignInRequest) (*sessionv1.SignInResponse, error) {
			key := r.saw(ctx)
			if previous := req.GetPreviousToken(); previous != "" && !r.has(key, previous) {
				return nil, invalid
			}
			return &sessionv1.SignInResponse{Token: token, ExpiresAt: r.put(key, token)}, nil
		},
		touch: func(ctx context.Context, req *sessionv1.TouchRequest) (*sessionv1.TouchResponse, error) {
			if !r.has(r.saw(ctx), req.GetToken()) {
				return nil, invalid
			}
			return &sessionv1.TouchResponse{PersonId: "ann", ExpiresAt: timestamppb.New(sessionEnd)}, nil
		},
		refresh: func(ctx context.Context, req *sessionv1.RefreshRequest) (*sessionv1.RefreshResponse, error) {
			key := r.saw(ctx)
			if !r.has(key, req.GetToken()) {
				return nil, invalid
			}
			return &sessionv1.RefreshResponse{Token: token + "2", ExpiresAt: r.put(key, token+"2")}, nil
		},
		revoke: func(ctx context.Context, req *sessionv1.RevokeRequest) (*sessionv1.RevokeResponse, error) {
			if !r.has(r.saw(ctx), req.GetToken()) {
				return &sessionv1.RevokeResponse{}, nil
			}
			return &sessionv1.RevokeResponse{Ended: 1}, nil
		},
		all: func(ctx context.Context, _ *sessionv1.RevokeAllRequest) (*sessionv1.RevokeAllResponse, error) {
			r.saw(ctx)
			return &sessionv1.RevokeAllResponse{Ended: 1}, nil
		},
		catalog: catalogStub{seats: func(context.Context, *catalogv1.GetSeatMapRequest) (*catalogv1.GetSeatMapResponse, error) {
			return &catalogv1.GetSeatMapResponse{}, nil
		}},
	}
}

var sticky = regexp.MustCompile(`^standard-[0-9a-f]{8}\.([0-9a-f]{16})\.`)

// keyOf is the affinity key within a token, "" when there is none.
func keyOf(token string) string {
	if found := sticky.FindStringSubmatch(token); found != nil {
		return found[1]
	}
	return ""
}

func TestASessionStaysWithItsReplica(t *testing.T) {
	r := &replicas{known: map[string]string{}}
	g := start(t, r.mesh(), "SPILLWAY_GATEWAY_SESSION_AFFINITY=true")
	in, err := g.rpc.SignIn(t.Context(), &gatewayv1.SignInRequest{PersonId: "ann"})
	if err != nil {
		t.Fatal(err)
	}
	if !sticky.MatchString(in.GetToken()) || !strings.HasSuffix(in.GetToken(), token) {
		t.Fatalf("the token is %q, want a claim, a key and the session's own, with dots between", in.GetToken())
	}
	key := keyOf(in.GetToken())
	seatMap := func(token string) error {
		_, err := g.rpc.GetSeatMap(bearing(t.Context(), token), &gatewayv1.GetSeatMapRequest{ShowId: "opening-night"})
		return err
	}
	if err := seatMap(in.GetToken()); err != nil {
		t.Error(err)
	}
	again, err := g.rpc.SignIn(bearing(t.Context(), in.GetToken()), &gatewayv1.SignInRequest{PersonId: "ann"})
	if err != nil || again.GetToken() != in.GetToken() {
		t.Fatalf("a sign-in that ends a session gave %q, %v, want to reach the replica that has it", again.GetToken(), err)
	}
	next, err := g.rpc.RefreshSession(bearing(t.Context(), in.GetToken()), &gatewayv1.RefreshSessionRequest{})
	if err != nil || next.GetToken() != in.GetToken()+"2" {
		t.Fatalf("a refresh gave %q, %v, want the same key", next.GetToken(), err)
	}
	for _, everywhere := range []bool{false, true} {
		out, err := g.rpc.SignOut(bearing(t.Context(), next.GetToken()), &gatewayv1.SignOutRequest{Everywhere: everywhere})
		if err != nil || out.GetEnded() != 1 {
			t.Errorf("signing out, everywhere %v: %v, %v", everywhere, out, err)
		}
	}
	for i, got := range r.seen() {
		if got != key {
			t.Errorf("call %d carries %q, want %q", i, got, key)
		}
	}
	other, err := g.rpc.SignIn(t.Context(), &gatewayv1.SignInRequest{PersonId: "bob"})
	if err != nil || keyOf(other.GetToken()) == key {
		t.Errorf("another person got %q, %v, want another key", other.GetToken(), err)
	}

	// What is no token of ours is invalid, and reaches no replica by a key of its own making.
	calls := len(r.seen())
	for _, forged := range []string{token, "." + token, "0123456789abcdeX." + token, "00." + token, strings.ToUpper(in.GetToken()), "x"} {
		refused(t, seatMap(forged), codes.Unauthenticated, problem.SessionInvalid)
	}
	for _, got := range r.seen()[calls:] {
		if got != "" {
			t.Errorf("a forged key %q went through", got)
		}
	}
}

func TestAffinityOverHTTP(t *testing.T) {
	r := &replicas{known: map[string]string{}}
	g := start(t, r.mesh(), "SPILLWAY_GATEWAY_SESSION_AFFINITY=true")
	outside := []string{affinityHeader, "0000000000000000", "Grpc-Metadata-" + affinityHeader, "0000000000000000"}
	in := g.do(t, "POST", "/v1/session", strings.NewReader(`{"personId":"ann"}`), outside...)
	var body struct{ Token string }
	if err := json.Unmarshal([]byte(in.body), &body); err != nil || !sticky.MatchString(body.Token) {
		t.Fatalf("signing in answered %d %s", in.status, in.body)
	}
	jar, _, _ := strings.Cut(in.header.Get("Set-Cookie"), ";")
	if jar != cookieName+"="+body.Token {
		t.Fatalf("the cookie is %q, want the token of the body, %q", jar, body.Token)
	}
	for name, headers := range map[string][]string{
		"cookie": {"Cookie", jar},
		"bearer": {"Authorization", "Bearer " + body.Token},
	} {
		if got := g.do(t, "GET", "/v1/shows/opening-night/seats", nil, append(headers, outside...)...); got.status != 200 {
			t.Errorf("%s: %d %s", name, got.status, got.body)
		}
	}
	for i, got := range r.seen() {
		if got != keyOf(body.Token) {
			t.Errorf("call %d carries %q, want %q", i, got, keyOf(body.Token))
		}
	}
}

// Nobody outside chooses the replica: the header is dropped, with affinity and without.
func TestAffinityFromOutsideIsDropped(t *testing.T) {
	for _, on := range []string{"true", "false"} {
		t.Run(on, func(t *testing.T) {
			r := &replicas{known: map[string]string{}}
			g := start(t, r.mesh(), "SPILLWAY_GATEWAY_SESSION_AFFINITY="+on)
			ctx := metadata.AppendToOutgoingContext(t.Context(), affinityHeader, "0000000000000000")
			in, err := g.rpc.SignIn(ctx, &gatewayv1.SignInRequest{PersonId: "ann"})
			if err != nil {
				t.Fatal(err)
			}
			if _, err := g.rpc.GetSeatMap(bearing(ctx, in.GetToken()), &gatewayv1.GetSeatMapRequest{ShowId: "opening-night"}); err != nil {
				t.Error(err)
			}
			want := ""
			if on == "true" {
				want = keyOf(in.GetToken())
			} else if in.GetToken() != claimOf("ann").join(token) {
				t.Errorf("without affinity the token is %q, want a claim and the session's own", in.GetToken())
			}
			if got := r.seen(); !slices.Equal(got, []string{want, want}) {
				t.Errorf("the calls carry %q, want %q", got, want)
			}
		})
	}
}
