package main

import (
	"context"
	"strconv"
	"strings"
	"time"

	"google.golang.org/grpc"

	"spillway.dev/platform/criticality"
	gatewayv1 "spillway.dev/proto/gen/spillway/gateway/v1"
)

// claim is what a token says about the priority of its holder: it begins with the claim, so that the priority of a call is
// known before any service is asked for it. It proves nothing: the session service knows whose token it is, and a claim
// that does not fit that person is refused (session.go). The zero value claims nothing.
type claim struct {
	class criticality.Class
	hash  uint32 // of the person
	made  bool
}

// claimOf is the claim that a person's tokens begin with.
func claimOf(person string) claim {
	return claim{class: criticality.ClassOf(person), hash: criticality.Hash(person), made: true}
}

// hashDigits is how many hexadecimal digits of the person's hash a claim holds: all.
const hashDigits = 8

// splitClaim takes the claim off a token: "<class>-<hash>.", then the rest. A token without one, from before there were
// claims, claims nothing.
func splitClaim(token string) (c claim, rest string) {
	text, rest, found := strings.Cut(token, ".")
	name, digits, dashed := strings.Cut(text, "-")
	class, known := criticality.ParseClass(name)
	if !found || !dashed || !known || len(digits) != hashDigits || strings.Trim(digits, "0123456789abcdef") != "" {
		return claim{}, token
	}
	hash, err := strconv.ParseUint(digits, 16, 32)
	if err != nil {
		return claim{}, token
	}
	return claim{class: class, hash: uint32(hash), made: true}, rest
}

// join is the token as people get it.
func (c claim) join(token string) string {
	if !c.made {
		return token
	}
	digits := strconv.FormatUint(uint64(c.hash), 16)
	return c.class.String() + "-" + strings.Repeat("0", hashDigits-len(digits)) + digits + "." + token
}

// within returns ctx with the priority that is claimed.
func (c claim) within(ctx context.Context) context.Context {
	return criticality.With(ctx, c.class, criticality.BandOf(c.hash, time.Now()))
}

// prioritized gives each call its priority before the server's chain sees it. A sign-in has that of the person who is to be
// signed in; every other call that of its token's claim. A token without a claim is standard, and its session as a whole is
// kept or shed. A call without a token is left to the chain.
func prioritized(chain grpc.UnaryServerInterceptor) grpc.UnaryServerInterceptor {
	return func(ctx context.Context, req any, info *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
		if signIn, ok := req.(*gatewayv1.SignInRequest); ok {
			ctx = claimOf(signIn.GetPersonId()).within(ctx)
		} else if token := bearer(ctx); token != "" {
			c, rest := splitClaim(token)
			if !c.made {
				c = claim{class: criticality.Standard, hash: criticality.Hash(rest)}
			}
			ctx = c.within(ctx)
		}
		return chain(ctx, req, info, handler)
	}
}
