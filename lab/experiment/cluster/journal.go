package cluster

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"google.golang.org/grpc"
	autoscalingv2 "k8s.io/api/autoscaling/v2"

	"spillway.dev/lab/autoscaler"
	autoscalerv1 "spillway.dev/proto/gen/spillway/autoscaler/v1"
)

// autoscalerKind is the kind of Kubernetes' autoscalers.
const autoscalerKind = "HorizontalPodAutoscaler"

// journal keeps what autoscalers say, every time that they say it: the API server
// keeps of an event that comes again only the last time.
type journal struct {
	mu   sync.Mutex
	seen map[autoscaler.Event]bool
}

func newJournal() *journal { return &journal{seen: make(map[autoscaler.Event]bool)} }

// follow listens until ctx ends. A stream that breaks is asked for again: it then
// begins with what is there, which is known already.
func (j *journal) follow(ctx context.Context, conn grpc.ClientConnInterface) {
	client := autoscalerv1.NewAutoscalerServiceClient(conn)
	tick := time.NewTicker(lookAgain)
	defer tick.Stop()
	for {
		stream, err := client.StreamEvents(ctx, &autoscalerv1.StreamEventsRequest{Follow: true})
		for err == nil {
			var e *autoscalerv1.StreamEventsResponse
			if e, err = stream.Recv(); err == nil {
				j.add(e)
			}
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

func (j *journal) add(e *autoscalerv1.StreamEventsResponse) {
	if e.GetKind() != autoscalerKind {
		return
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	j.seen[autoscaler.Event{
		At: e.GetAt().AsTime(), Type: e.GetType(), Reason: e.GetReason(), Kind: e.GetKind(), Name: e.GetName(), Message: e.GetMessage(),
	}] = true
}

// sorted is everything in order of time.
func (j *journal) sorted() []autoscaler.Event {
	j.mu.Lock()
	defer j.mu.Unlock()
	return slices.SortedFunc(maps.Keys(j.seen), func(a, b autoscaler.Event) int {
		return cmp.Or(a.At.Compare(b.At), strings.Compare(a.Name, b.Name), strings.Compare(a.Reason, b.Reason), strings.Compare(a.Message, b.Message))
	})
}

// targets are the workloads that autoscalers scale, by the autoscaler's name.
func (m *mesh) targets(ctx context.Context) (map[string]string, error) {
	list, err := autoscalerv1.NewAutoscalerServiceClient(m.session.Conn()).ListObjects(ctx, &autoscalerv1.ListObjectsRequest{Kind: autoscalerKind})
	if err != nil {
		return nil, err
	}
	targets := make(map[string]string)
	for _, text := range list.GetObjects() {
		var hpa autoscalingv2.HorizontalPodAutoscaler
		if err := json.Unmarshal([]byte(text), &hpa); err != nil {
			return nil, fmt.Errorf("read an autoscaler: %w", err)
		}
		targets[hpa.Name] = hpa.Spec.ScaleTargetRef.Name
	}
	return targets, nil
}

// rescaled is the reason of the event by which Kubernetes' autoscaler tells that it
// changed a number of replicas, and its text
// (k8s.io/kubernetes/pkg/controller/podautoscaler, reconcileAutoscaler).
const rescaled = "SuccessfulRescale"

func rescaledTo(message string) (n int, reason string, ok bool) {
	size, reason, found := strings.Cut(message, "; reason: ")
	if !found {
		return 0, "", false
	}
	if _, err := fmt.Sscanf(size, "New size: %d", &n); err != nil {
		return 0, "", false
	}
	return n, reason, true
}

// rescales is what autoscalers changed, by their events. Those say what was wanted
// from then on, and what was before follows from the start and the changes since,
// also those by hand.
func rescales(events []autoscaler.Event, targets map[string]string, start map[string]int, byHand []change) []autoscaler.Rescale {
	now := maps.Clone(start)
	var out []autoscaler.Rescale
	for _, e := range events {
		target, known := targets[e.Name]
		n, reason, ok := rescaledTo(e.Message)
		if e.Reason != rescaled || !known || !ok {
			continue
		}
		for len(byHand) > 0 && byHand[0].at.Before(e.At) {
			now[byHand[0].service] = byHand[0].to
			byHand = byHand[1:]
		}
		out = append(out, autoscaler.Rescale{At: e.At, Autoscaler: e.Name, Target: target, From: now[target], To: n, Reason: reason})
		now[target] = n
	}
	return out
}
