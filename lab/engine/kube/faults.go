package kube

import (
	"context"
	"errors"
	"log/slog"
	"sync"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"spillway.dev/lab/fault"
	faultv1 "spillway.dev/proto/gen/spillway/fault/v1"
	knobv1 "spillway.dev/proto/gen/spillway/knob/v1"
)

// The Service of the control plane, and its port.
const (
	controlPlane     = "conductor"
	controlPlanePort = "18000"
)

// faults is FaultService over what is in force in the cluster. It reads that when
// it is asked for the first time.
type faults struct {
	faultv1.UnimplementedFaultServiceServer
	session *Session

	ctx     context.Context // of the writer
	stop    context.CancelFunc
	writing sync.WaitGroup

	mu       sync.Mutex
	injector *fault.Injector
	controls *controls
}

func newFaults(s *Session) *faults {
	ctx, stop := context.WithCancel(context.Background())
	return &faults{session: s, ctx: ctx, stop: stop}
}

// open takes over what is in force.
func (f *faults) open(ctx context.Context) (*fault.Injector, *controls, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.injector != nil {
		return f.injector, f.controls, nil
	}
	there, err := f.session.has(ctx, f.session.namespace, controlPlane)
	if err != nil {
		return nil, nil, err
	}
	if !there {
		return nil, nil, status.Errorf(codes.FailedPrecondition, "%s has no Service %s: faults and knobs travel with the mesh's control plane, `spillway up --engine kube` brings it", f.session.Where(), controlPlane)
	}
	controls, kept, err := readControls(ctx, f.session.Cluster)
	if err != nil {
		return nil, nil, err
	}
	injector := fault.NewInjector(controls, knobv1.NewKnobServiceClient(f.session.conn), slog.New(slog.DiscardHandler))
	controls.kept = injector.Keep
	if err := injector.Restore(ctx, kept); err != nil {
		return nil, nil, err
	}
	f.injector, f.controls = injector, controls
	f.writing.Go(func() { controls.run(f.ctx) })
	return injector, controls, nil
}

// do calls the injector's FaultService and waits until what it changed is written.
func do[Req, Resp any](ctx context.Context, f *faults, req Req, call func(faultv1.FaultServiceServer, context.Context, Req) (Resp, error)) (Resp, error) {
	injector, controls, err := f.open(ctx)
	if err != nil {
		var none Resp
		return none, err
	}
	resp, err := call(injector.Server(), ctx, req)
	// What was undone is written too.
	return resp, errors.Join(err, controls.flush(ctx))
}

// InjectFault implements FaultService.
func (f *faults) InjectFault(ctx context.Context, req *faultv1.InjectFaultRequest) (*faultv1.InjectFaultResponse, error) {
	return do(ctx, f, req, faultv1.FaultServiceServer.InjectFault)
}

// ClearFault implements FaultService.
func (f *faults) ClearFault(ctx context.Context, req *faultv1.ClearFaultRequest) (*faultv1.ClearFaultResponse, error) {
	return do(ctx, f, req, faultv1.FaultServiceServer.ClearFault)
}

// ListFaults implements FaultService.
func (f *faults) ListFaults(ctx context.Context, req *faultv1.ListFaultsRequest) (*faultv1.ListFaultsResponse, error) {
	return do(ctx, f, req, faultv1.FaultServiceServer.ListFaults)
}

// SetKnob implements FaultService.
func (f *faults) SetKnob(ctx context.Context, req *faultv1.SetKnobRequest) (*faultv1.SetKnobResponse, error) {
	return do(ctx, f, req, faultv1.FaultServiceServer.SetKnob)
}

// ResetKnobs implements FaultService.
func (f *faults) ResetKnobs(ctx context.Context, req *faultv1.ResetKnobsRequest) (*faultv1.ResetKnobsResponse, error) {
	return do(ctx, f, req, faultv1.FaultServiceServer.ResetKnobs)
}

// close leaves what is in force as it is.
func (f *faults) close() {
	f.stop()
	f.writing.Wait()
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.injector != nil {
		f.injector.Leave()
	}
}
