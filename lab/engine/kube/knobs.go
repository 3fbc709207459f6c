package kube

import (
	"cmp"
	"context"
	"slices"
	"strings"
	"sync"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"

	knobv1 "spillway.dev/proto/gen/spillway/knob/v1"
)

// knobs is KnobService over every replica of the control plane: each of them only
// knows what those have declared who happen to watch it.
type knobs struct {
	knobv1.UnimplementedKnobServiceServer
	session *Session

	mu    sync.Mutex
	conns map[string]*grpc.ClientConn // to replicas of the control plane, by their address here
}

func newKnobs(s *Session) *knobs {
	return &knobs{session: s, conns: make(map[string]*grpc.ClientConn)}
}

// ListKnobs implements KnobService. One replica of the control plane that does not
// answer is an error: what it knows would be missing.
func (k *knobs) ListKnobs(ctx context.Context, req *knobv1.ListKnobsRequest) (*knobv1.ListKnobsResponse, error) {
	s, err := k.session.read(ctx)
	if err != nil {
		return nil, answer(err)
	}
	pods, err := s.podsOf(controlPlane)
	if err != nil {
		return nil, err
	}
	var all []*knobv1.ListKnobsResponse
	for _, p := range pods {
		if !ready(p) {
			continue
		}
		conn, err := k.conn(p.Name)
		if err != nil {
			return nil, answer(err)
		}
		list, err := knobv1.NewKnobServiceClient(conn).ListKnobs(ctx, req)
		if err != nil {
			return nil, status.Errorf(status.Code(err), "%s, a replica of the control plane, does not tell its knobs: %v", p.Name, err)
		}
		all = append(all, list)
	}
	if len(all) == 0 {
		return nil, status.Errorf(codes.Unavailable, "the control plane of %s has no ready replica; `spillway ps` shows why", k.session.Where())
	}
	return merged(all), nil
}

// conn connects to a replica of the control plane.
func (k *knobs) conn(pod string) (*grpc.ClientConn, error) {
	address, err := k.session.forwardPod(pod, "xds")
	if err != nil {
		return nil, err
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if conn := k.conns[address]; conn != nil {
		return conn, nil
	}
	conn, err := grpc.NewClient("passthrough:///"+address, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err == nil {
		k.conns[address] = conn
	}
	return conn, err
}

// close gives the connections back.
func (k *knobs) close() (err error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, conn := range k.conns {
		err = cmp.Or(err, conn.Close())
	}
	return err
}

// merged is everything that any of several lists has, by service and knob. What is
// set is the same in all of them, but for one that has not heard of it yet.
func merged(all []*knobv1.ListKnobsResponse) *knobv1.ListKnobsResponse {
	out := &knobv1.ListKnobsResponse{}
	for _, list := range all {
		for _, from := range list.GetServices() {
			i, found := slices.BinarySearchFunc(out.GetServices(), from.GetService(), func(s *knobv1.ServiceKnobs, name string) int {
				return strings.Compare(s.GetService(), name)
			})
			if !found {
				out.Services = slices.Insert(out.Services, i, &knobv1.ServiceKnobs{Service: from.GetService()})
			}
			to := out.Services[i]
			for _, knob := range from.GetKnobs() {
				j, found := slices.BinarySearchFunc(to.GetKnobs(), knob.GetKnob().GetName(), func(s *knobv1.KnobState, name string) int {
					return strings.Compare(s.GetKnob().GetName(), name)
				})
				switch {
				case !found:
					to.Knobs = slices.Insert(to.Knobs, j, knob)
				case to.Knobs[j].GetValue() == "":
					to.Knobs[j].Value = knob.GetValue()
				}
			}
		}
	}
	return out
}
