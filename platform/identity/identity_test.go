package identity_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"regexp"
	"slices"
	"strings"
	"testing"

	"go.uber.org/goleak"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"

	"spillway.dev/platform/identity"
	"spillway.dev/platform/problem"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestValid(t *testing.T) {
	for name, want := range map[string]bool{
		"order": true, "a": true, "order-2": true, "seat-map-cache": true, strings.Repeat("a", 63): true,
		"": false, "external": false, "Order": false, "2order": false, "-order": false, "order-": false, "or der": false,
		"order\n": false, "order,payment": false, "örder": false, "order.v1": false, "order_2": false, "a\x00": false,
		strings.Repeat("a", 64): false,
	} {
		if got := identity.Valid(name); got != want {
			t.Errorf("Valid(%q) = %v", name, got)
		}
	}
}

// label is a DNS label that begins with a letter (RFC 1035, 2.3.1), in lower case.
var label = regexp.MustCompile(`^[a-z]([a-z0-9-]{0,61}[a-z0-9])?$`)

// FuzzFromIncoming has calls whose header has no, one or two values, over connections with and without a certificate. Whatever
// they are, a call is let in under a name that may be a service's and that its certificate allows, or as an outsider's, or it
// is refused; and at the edge nobody gets a name by metadata.
func FuzzFromIncoming(f *testing.F) {
	for _, name := range []string{"order", "seat-map-2", "", "external", "Order", "2order", "-a", "a-", "a_b", "a\n", "a,b", "\u00f6", "\xff", strings.Repeat("a", 63), strings.Repeat("a", 64)} {
		f.Add(uint8(1), name, "payment", true, name)
		f.Add(uint8(1), name, "payment", true, "gateway")
		f.Add(uint8(0), "", "", true, name)
		f.Add(uint8(1), name, "payment", false, "")
		f.Add(uint8(2), name, name, false, "")
	}
	f.Fuzz(func(t *testing.T, n uint8, first, second string, certified bool, proven string) {
		name := func(s string) bool { return label.MatchString(s) && s != identity.External }
		if got := identity.Valid(first); got != name(first) {
			t.Errorf("Valid(%q) = %v", first, got)
		}
		values := []string{first, second}[:n%3]
		call := incoming(t, values...)
		if certified {
			call = shown(call, proven)
		}
		caller, welcome := identity.External, false
		switch {
		case len(values) == 1:
			if welcome = name(first) && (!certified || first == proven); welcome {
				caller = first
			}
		case len(values) == 0:
			if welcome = true; certified && name(proven) {
				caller = proven
			}
		}
		ctx, err := identity.FromIncoming(call)
		if got := identity.Caller(ctx); got != caller || (err == nil) != welcome {
			t.Errorf("names %q, certificate %v for %q: caller %q, error %v", values, certified, proven, got, err)
		}
		if err != nil && (problem.Reason(err) != problem.CallerInvalid || problem.From(err).Code != codes.InvalidArgument) {
			t.Errorf("names %q are refused with %v", values, err)
		}
		caller = identity.External
		if certified && name(proven) {
			caller = proven
		}
		if ctx, err = identity.FromIncoming(identity.Outside(call)); identity.Caller(ctx) != caller || err != nil {
			t.Errorf("at the edge, names %q, certificate %v for %q: caller %q, error %v", values, certified, proven, identity.Caller(ctx), err)
		}
	})
}

func incoming(t *testing.T, values ...string) context.Context {
	md := metadata.Pairs("other", "stays")
	if len(values) > 0 {
		md[identity.Header] = values
	}
	return metadata.NewIncomingContext(t.Context(), md)
}

// shown is ctx of a call over a connection whose other end has shown a verified certificate with these DNS names.
func shown(ctx context.Context, names ...string) context.Context {
	leaf := &x509.Certificate{DNSNames: names}
	return peer.NewContext(ctx, &peer.Peer{AuthInfo: credentials.TLSInfo{
		State: tls.ConnectionState{PeerCertificates: []*x509.Certificate{leaf}, VerifiedChains: [][]*x509.Certificate{{leaf}}},
	}})
}

// TestCertificateProvesTheName: with a certificate the name is a proof, at the edge too.
func TestCertificateProvesTheName(t *testing.T) {
	for name, test := range map[string]struct {
		ctx          context.Context
		caller, edge string
		reason       string
	}{
		"its name":             {shown(incoming(t, "order"), "order"), "order", "order", ""},
		"one of its names":     {shown(incoming(t, "order"), "lab", "order"), "order", "lab", ""},
		"no name given":        {shown(incoming(t), "order.spillway.svc", "order", "lab"), "order", "order", ""},
		"it is of no service":  {shown(incoming(t), "example.com"), identity.External, identity.External, ""},
		"another name":         {shown(incoming(t, "payment"), "order"), identity.External, "order", problem.CallerInvalid},
		"it has no name":       {shown(incoming(t, "payment")), identity.External, identity.External, problem.CallerInvalid},
		"TLS alone is no name": {peer.NewContext(incoming(t, "order"), &peer.Peer{AuthInfo: credentials.TLSInfo{}}), "order", identity.External, ""},
	} {
		t.Run(name, func(t *testing.T) {
			ctx, err := identity.FromIncoming(test.ctx)
			if got := identity.Caller(ctx); got != test.caller || problem.Reason(err) != test.reason {
				t.Errorf("caller %q, error %v", got, err)
			}
			ctx, err = identity.FromIncoming(identity.Outside(test.ctx))
			if got := identity.Caller(ctx); got != test.edge || err != nil {
				t.Errorf("at the edge: caller %q, error %v", got, err)
			}
		})
	}
}

func TestFromIncoming(t *testing.T) {
	for name, test := range map[string]struct {
		ctx    context.Context
		caller string
		reason string
	}{
		"no metadata":     {t.Context(), identity.External, ""},
		"no name":         {incoming(t), identity.External, ""},
		"a name":          {incoming(t, "order"), "order", ""},
		"two names":       {incoming(t, "order", "payment"), identity.External, problem.CallerInvalid},
		"the same twice":  {incoming(t, "order", "order"), identity.External, problem.CallerInvalid},
		"an empty name":   {incoming(t, ""), identity.External, problem.CallerInvalid},
		"a malformed one": {incoming(t, "order; drop"), identity.External, problem.CallerInvalid},
		"the outsider's":  {incoming(t, "external"), identity.External, problem.CallerInvalid},
	} {
		t.Run(name, func(t *testing.T) {
			ctx, err := identity.FromIncoming(test.ctx)
			if got := identity.Caller(ctx); got != test.caller || problem.Reason(err) != test.reason {
				t.Errorf("caller %q, error %v", got, err)
			}
			if err != nil && problem.From(err).Code != codes.InvalidArgument {
				t.Errorf("code is %v", problem.From(err).Code)
			}
			ctx, err = identity.FromIncoming(identity.Outside(test.ctx))
			if got := identity.Caller(ctx); got != identity.External || err != nil {
				t.Errorf("at the edge: caller %q, error %v", got, err)
			}
		})
	}
	if got := identity.Caller(t.Context()); got != identity.External {
		t.Errorf("outside of any call the caller is %q", got)
	}
}

func TestOutsideDropsTheNameOnly(t *testing.T) {
	before := incoming(t, "order")
	after := identity.Outside(before)
	if got := metadata.ValueFromIncomingContext(after, identity.Header); got != nil {
		t.Errorf("the name is still there: %v", got)
	}
	if got := metadata.ValueFromIncomingContext(after, "other"); !slices.Equal(got, []string{"stays"}) {
		t.Errorf("other metadata is %v", got)
	}
	if got := metadata.ValueFromIncomingContext(before, identity.Header); !slices.Equal(got, []string{"order"}) {
		t.Errorf("the original changed: %v", got)
	}
}

func TestOutgoingPutsTheServicesOwnName(t *testing.T) {
	ctx := metadata.AppendToOutgoingContext(t.Context(), "other", "stays", identity.Header, "gateway")
	out, _ := metadata.FromOutgoingContext(identity.Outgoing(ctx, "order"))
	if got := out.Get(identity.Header); !slices.Equal(got, []string{"order"}) || !slices.Equal(out.Get("other"), []string{"stays"}) {
		t.Errorf("metadata is %v", out)
	}
	if md, _ := metadata.FromOutgoingContext(ctx); !slices.Equal(md.Get(identity.Header), []string{"gateway"}) {
		t.Errorf("the original changed: %v", md)
	}
	bare, _ := metadata.FromOutgoingContext(identity.Outgoing(t.Context(), "order"))
	if got := bare.Get(identity.Header); !slices.Equal(got, []string{"order"}) {
		t.Errorf("without metadata before: %v", bare)
	}
}
