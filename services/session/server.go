package main

import (
	"context"

	"google.golang.org/protobuf/types/known/timestamppb"

	"spillway.dev/platform/session"
	sessionv1 "spillway.dev/proto/gen/spillway/session/v1"
)

// server answers the RPCs. The store's errors are problems and cross as they are.
type server struct {
	sessionv1.UnimplementedSessionServiceServer
	store store
}

// store is what both stores of sessions do.
type store interface {
	SignIn(ctx context.Context, person string, previous session.Token) (session.Session, error)
	Touch(ctx context.Context, token session.Token) (session.Session, error)
	Refresh(ctx context.Context, token session.Token) (session.Session, error)
	Revoke(ctx context.Context, token session.Token) (int, error)
	RevokeAll(ctx context.Context, person string) (int, error)
}

// SignIn opens a session and ends the one the caller came with.
func (s *server) SignIn(ctx context.Context, req *sessionv1.SignInRequest) (*sessionv1.SignInResponse, error) {
	got, err := s.store.SignIn(ctx, req.GetPersonId(), session.Token(req.GetPreviousToken()))
	if err != nil {
		return nil, err
	}
	return &sessionv1.SignInResponse{Token: string(got.Token), ExpiresAt: timestamppb.New(got.ExpiresAt)}, nil
}

// Touch tells whose session it is.
func (s *server) Touch(ctx context.Context, req *sessionv1.TouchRequest) (*sessionv1.TouchResponse, error) {
	got, err := s.store.Touch(ctx, session.Token(req.GetToken()))
	if err != nil {
		return nil, err
	}
	return &sessionv1.TouchResponse{PersonId: got.Person, ExpiresAt: timestamppb.New(got.ExpiresAt)}, nil
}

// Refresh exchanges a token for a new one.
func (s *server) Refresh(ctx context.Context, req *sessionv1.RefreshRequest) (*sessionv1.RefreshResponse, error) {
	got, err := s.store.Refresh(ctx, session.Token(req.GetToken()))
	if err != nil {
		return nil, err
	}
	return &sessionv1.RefreshResponse{Token: string(got.Token), ExpiresAt: timestamppb.New(got.ExpiresAt)}, nil
}

// Revoke ends one session.
func (s *server) Revoke(ctx context.Context, req *sessionv1.RevokeRequest) (*sessionv1.RevokeResponse, error) {
	n, err := s.store.Revoke(ctx, session.Token(req.GetToken()))
	if err != nil {
		return nil, err
	}
	return &sessionv1.RevokeResponse{Ended: int32(n)}, nil
}

// RevokeAll ends every session of a person.
func (s *server) RevokeAll(ctx context.Context, req *sessionv1.RevokeAllRequest) (*sessionv1.RevokeAllResponse, error) {
	n, err := s.store.RevokeAll(ctx, req.GetPersonId())
	if err != nil {
		return nil, err
	}
	return &sessionv1.RevokeAllResponse{Ended: int32(n)}, nil
}
