package fault

import (
	"context"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	faultv1 "spillway.dev/proto/gen/spillway/fault/v1"
)

// server is FaultService over an Injector.
type server struct {
	faultv1.UnimplementedFaultServiceServer
	*Injector
}

// Server returns the FaultService of this injector.
func (i *Injector) Server() faultv1.FaultServiceServer { return server{Injector: i} }

// InjectFault implements FaultService.
func (s server) InjectFault(ctx context.Context, request *faultv1.InjectFaultRequest) (*faultv1.InjectFaultResponse, error) {
	f, err := FromProto(request.GetFault())
	if err != nil {
		return nil, status.Error(codes.InvalidArgument, err.Error())
	}
	var d time.Duration
	if given := request.GetDuration(); given != nil {
		// A duration of nothing is not "until cleared", which is said by leaving it out.
		if d = given.AsDuration(); given.CheckValid() != nil || d <= 0 {
			return nil, status.Errorf(codes.InvalidArgument, "duration %v is not allowed, give more than 0s or leave it out", d)
		}
	}
	begun, err := s.Begin(ctx, f, d)
	if err != nil {
		return nil, err
	}
	return &faultv1.InjectFaultResponse{Fault: begun}, nil
}

// ClearFault implements FaultService.
func (s server) ClearFault(ctx context.Context, request *faultv1.ClearFaultRequest) (*faultv1.ClearFaultResponse, error) {
	cleared, err := s.Clear(ctx, request.GetId())
	if err != nil {
		return nil, err
	}
	return &faultv1.ClearFaultResponse{Cleared: cleared}, nil
}

// ListFaults implements FaultService.
func (s server) ListFaults(context.Context, *faultv1.ListFaultsRequest) (*faultv1.ListFaultsResponse, error) {
	return &faultv1.ListFaultsResponse{Faults: s.List()}, nil
}

// SetKnob implements FaultService.
func (s server) SetKnob(ctx context.Context, request *faultv1.SetKnobRequest) (*faultv1.SetKnobResponse, error) {
	previous, err := s.Injector.SetKnob(ctx, request.GetService(), request.GetName(), request.GetValue())
	if err != nil {
		return nil, err
	}
	return &faultv1.SetKnobResponse{Previous: previous}, nil
}

// ResetKnobs implements FaultService.
func (s server) ResetKnobs(ctx context.Context, _ *faultv1.ResetKnobsRequest) (*faultv1.ResetKnobsResponse, error) {
	if err := s.Injector.ResetKnobs(ctx); err != nil {
		return nil, err
	}
	return &faultv1.ResetKnobsResponse{}, nil
}
