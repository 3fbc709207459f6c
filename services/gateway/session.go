package main

import (
	"context"

	"google.golang.org/grpc/codes"

	"spillway.dev/platform/problem"
	"spillway.dev/platform/session"
	sessionv1 "spillway.dev/proto/gen/spillway/session/v1"
)

// maxTokenBytes is what the session service's contract takes. A longer token is no token.
const maxTokenBytes = 128

// bearer gives the session token of a call, "" when it has none.
func bearer(ctx context.Context) string { return string(session.Bearer(ctx)) }

// required gives the session token of a call that cannot do without.
func required(ctx context.Context) (string, error) {
	token := bearer(ctx)
	switch {
	case token == "":
		return "", problem.New(codes.Unauthenticated, reasonSessionRequired, "this call needs a session: sign in, then send its token as authorization: Bearer or its cookie")
	case len(token) > maxTokenBytes:
		return "", invalid()
	}
	return token, nil
}

// sessionToken is a session's token, taken apart.
type sessionToken struct {
	claim claim
	key   string // for affinity
	rest  string // what the session service knows
}

func (s *server) split(text string) sessionToken {
	c, rest := splitClaim(text)
	key, rest := s.affinity.split(rest)
	return sessionToken{claim: c, key: key, rest: rest}
}

// join is the token as people get it, after the session service has given it another rest.
func (s *server) join(t sessionToken, rest string) string {
	return t.claim.join(s.affinity.join(t.key, rest))
}

// person tells whose session a call came with, and puts the session's idle expiry off. The session is the only source of
// who is calling; no request can name a person. Calls made with the context that it returns have the person's priority.
func (s *server) person(ctx context.Context) (_ context.Context, person string, err error) {
	ctx, person, _, err = s.known(ctx)
	return ctx, person, err
}

// known is person, and the session's token.
//
// A claim that does not fit the person is somebody else's or made up, and the session is not valid with it: whoever makes
// claims up gets no further than here. Who comes without a claim gets the priority that he has.
func (s *server) known(ctx context.Context) (_ context.Context, person string, t sessionToken, err error) {
	text, err := required(ctx)
	if err != nil {
		return ctx, "", sessionToken{}, err
	}
	t = s.split(text)
	resp, err := s.session.Touch(toward(ctx, t.key), &sessionv1.TouchRequest{Token: t.rest})
	if err != nil {
		return ctx, "", sessionToken{}, passOn("session", err)
	}
	own := claimOf(resp.GetPersonId())
	switch {
	case !t.claim.made:
		ctx = own.within(ctx)
	case t.claim != own:
		return ctx, "", sessionToken{}, invalid()
	}
	return ctx, resp.GetPersonId(), t, nil
}

func invalid() error {
	return problem.New(codes.Unauthenticated, problem.SessionInvalid, "the session is not valid: sign in again")
}
