package fault

import (
	"fmt"
	"math"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	faultv1 "spillway.dev/proto/gen/spillway/fault/v1"
)

// FromProto reads a fault as it travels, and validates it.
func FromProto(message *faultv1.Fault) (Fault, error) {
	var f Fault
	var err error
	delay := func(d *durationpb.Duration) time.Duration {
		if d != nil && err == nil {
			if err = d.CheckValid(); err != nil {
				err = fmt.Errorf("a fault's delay: %w", err)
			}
		}
		return d.AsDuration()
	}
	edge := func(e *faultv1.EdgeFault) *Edge {
		return &Edge{Caller: e.GetCaller(), Callee: e.GetCallee(), Share: e.GetShare(), Delay: delay(e.GetDelay())}
	}
	replicas := func(r *faultv1.ReplicaFault) *Replicas {
		return &Replicas{Service: r.GetService(), Replicas: int(r.GetReplicas())}
	}
	switch kind := message.GetKind().(type) {
	case *faultv1.Fault_Latency:
		f.Latency = edge(kind.Latency)
	case *faultv1.Fault_Errors:
		f.Errors = edge(kind.Errors)
	case *faultv1.Fault_SlowDown:
		f.SlowDown = &SlowDown{Service: kind.SlowDown.GetService(), Factor: kind.SlowDown.GetFactor()}
	case *faultv1.Fault_Kill:
		f.Kill = replicas(kind.Kill)
	case *faultv1.Fault_Pause:
		f.Pause = replicas(kind.Pause)
	case *faultv1.Fault_Store:
		f.Store = &Store{Name: stores[kind.Store.GetStore()]}
	case *faultv1.Fault_Endpoints:
		f.Endpoints = &Endpoints{Delay: delay(kind.Endpoints.GetDelay())}
	case *faultv1.Fault_SlowStart:
		f.SlowStart = &SlowStart{Service: kind.SlowStart.GetService(), Delay: delay(kind.SlowStart.GetDelay())}
	case *faultv1.Fault_BankQuota:
		f.BankQuota = &BankQuota{PerSecond: int(kind.BankQuota.GetPerSecond())}
	}
	if err != nil {
		return Fault{}, err
	}
	return f, f.Validate()
}

var stores = map[faultv1.Store]string{faultv1.Store_STORE_REDIS: Redis, faultv1.Store_STORE_NATS: NATS}

// Proto is the fault as it travels. f must be valid.
func (f Fault) Proto() *faultv1.Fault {
	switch {
	case f.Latency != nil:
		return &faultv1.Fault{Kind: &faultv1.Fault_Latency{Latency: f.Latency.proto()}}
	case f.Errors != nil:
		return &faultv1.Fault{Kind: &faultv1.Fault_Errors{Errors: f.Errors.proto()}}
	case f.SlowDown != nil:
		return &faultv1.Fault{Kind: &faultv1.Fault_SlowDown{SlowDown: &faultv1.SlowDown{Service: f.SlowDown.Service, Factor: f.SlowDown.Factor}}}
	case f.Kill != nil:
		return &faultv1.Fault{Kind: &faultv1.Fault_Kill{Kill: f.Kill.proto()}}
	case f.Pause != nil:
		return &faultv1.Fault{Kind: &faultv1.Fault_Pause{Pause: f.Pause.proto()}}
	case f.Store != nil:
		store := &faultv1.StoreFault{}
		for wire, name := range stores {
			if name == f.Store.Name {
				store.Store = wire
			}
		}
		return &faultv1.Fault{Kind: &faultv1.Fault_Store{Store: store}}
	case f.Endpoints != nil:
		return &faultv1.Fault{Kind: &faultv1.Fault_Endpoints{Endpoints: &faultv1.EndpointFault{Delay: optional(f.Endpoints.Delay)}}}
	case f.SlowStart != nil:
		return &faultv1.Fault{Kind: &faultv1.Fault_SlowStart{SlowStart: &faultv1.SlowStart{Service: f.SlowStart.Service, Delay: durationpb.New(f.SlowStart.Delay)}}}
	case f.BankQuota != nil:
		return &faultv1.Fault{Kind: &faultv1.Fault_BankQuota{BankQuota: &faultv1.BankQuota{PerSecond: clip(f.BankQuota.PerSecond)}}}
	}
	return &faultv1.Fault{}
}

func (e *Edge) proto() *faultv1.EdgeFault {
	return &faultv1.EdgeFault{Caller: e.Caller, Callee: e.Callee, Share: e.Share, Delay: optional(e.Delay)}
}

func (r *Replicas) proto() *faultv1.ReplicaFault {
	return &faultv1.ReplicaFault{Service: r.Service, Replicas: clip(r.Replicas)}
}

func optional(d time.Duration) *durationpb.Duration {
	if d == 0 {
		return nil
	}
	return durationpb.New(d)
}

func clip(n int) int32 { return int32(max(math.MinInt32, min(n, math.MaxInt32))) }
