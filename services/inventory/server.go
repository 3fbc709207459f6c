package main

import (
	"context"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/types/known/timestamppb"

	"spillway.dev/platform/problem"
	"spillway.dev/platform/programme"
	inventoryv1 "spillway.dev/proto/gen/spillway/inventory/v1"
)

// server answers the RPCs. The store's errors are problems and cross as they are.
type server struct {
	inventoryv1.UnimplementedInventoryServiceServer
	store   *store
	shows   programme.Programme
	holdTTL time.Duration
}

// GetAvailability tells which seats are taken.
func (s *server) GetAvailability(ctx context.Context, req *inventoryv1.GetAvailabilityRequest) (*inventoryv1.GetAvailabilityResponse, error) {
	show, err := s.show(req.GetShowId())
	if err != nil {
		return nil, err
	}
	taken, err := s.store.taken(ctx, show)
	if err != nil {
		return nil, err
	}
	return &inventoryv1.GetAvailabilityResponse{Rows: int32(show.Rows), SeatsPerRow: int32(show.SeatsPerRow), Taken: taken}, nil
}

// Hold takes seats for a time.
func (s *server) Hold(ctx context.Context, req *inventoryv1.HoldRequest) (*inventoryv1.HoldResponse, error) {
	show, err := s.show(req.GetShowId())
	if err != nil {
		return nil, err
	}
	ttl := s.holdTTL
	if req.GetTtl() != nil {
		ttl = req.GetTtl().AsDuration()
	}
	held, err := s.store.hold(ctx, show, req.GetHoldId(), req.GetSeatIds(), ttl)
	if err != nil {
		return nil, err
	}
	return &inventoryv1.HoldResponse{ExpiresAt: timestamppb.New(held.expiresAt), AmountCents: held.amountCents}, nil
}

// Confirm turns a hold into a sale.
func (s *server) Confirm(ctx context.Context, req *inventoryv1.ConfirmRequest) (*inventoryv1.ConfirmResponse, error) {
	show, err := s.show(req.GetShowId())
	if err != nil {
		return nil, err
	}
	if err := s.store.confirm(ctx, show, req.GetHoldId()); err != nil {
		return nil, err
	}
	return &inventoryv1.ConfirmResponse{}, nil
}

// Release gives seats back, also sold ones.
func (s *server) Release(ctx context.Context, req *inventoryv1.ReleaseRequest) (*inventoryv1.ReleaseResponse, error) {
	show, err := s.show(req.GetShowId())
	if err != nil {
		return nil, err
	}
	released, err := s.store.release(ctx, show, req.GetHoldId())
	if err != nil {
		return nil, err
	}
	return &inventoryv1.ReleaseResponse{Released: released}, nil
}

func (s *server) show(id string) (programme.Show, error) {
	show, ok := s.shows.Show(id)
	if !ok {
		return programme.Show{}, problem.New(codes.NotFound, problem.ShowUnknown, "there is no show %q; the catalog lists those that are", id)
	}
	return show, nil
}
