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
		return "", problem.New(codes.Unauthenticated, problem.SessionInvalid, "the session is not valid: sign in again")
	}
	return token, nil
}

// person tells whose session a call came with, and puts the session's idle expiry off. The session is the only source of
// who is calling; no request can name a person.
func (s *server) person(ctx context.Context) (string, error) {
	person, _, err := s.known(ctx)
	return person, err
}

// known is person, and the affinity key of the session.
func (s *server) known(ctx context.Context) (person, key string, err error) {
	token, err := required(ctx)
	if err != nil {
		return "", "", err
	}
	key, token = s.affinity.split(token)
	resp, err := s.session.Touch(toward(ctx, key), &sessionv1.TouchRequest{Token: token})
	if err != nil {
		return "", "", passOn("session", err)
	}
	return resp.GetPersonId(), key, nil
}
