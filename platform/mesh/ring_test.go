package mesh

import (
	"fmt"
	"strconv"
	"testing"

	"google.golang.org/grpc/metadata"
)

const affinity = "x-spillway-affinity"

// whereabouts calls once for each of n header values and returns the port of the replica that each call reached.
func whereabouts(t *testing.T, c *client, replicas []*replica, n int) []uint32 {
	t.Helper()
	out := make([]uint32, n)
	for i := range out {
		before := make([]int64, len(replicas))
		for j, r := range replicas {
			before[j] = r.calls.Load()
		}
		if err := c.call(metadata.AppendToOutgoingContext(t.Context(), affinity, "person-"+strconv.Itoa(i))); err != nil {
			t.Fatal(err)
		}
		for j, r := range replicas {
			if r.calls.Load() > before[j] {
				out[i] = r.endpoint.Port
			}
		}
	}
	return out
}

func TestRingHashKeepsPeopleOnTheirReplica(t *testing.T) {
	const people = 300
	plane, replicas := newPlane(t), newReplicas(t, 4)
	sticky := func(endpoints []Endpoint) Service {
		return Service{Name: "session", Endpoints: endpoints, Policy: RingHash, HashHeader: affinity}
	}
	all := endpoints(replicas...)
	all[0].Zone, all[1].Zone, all[2].Zone, all[3].Zone = "a", "b", "b", "b"
	set(t, plane, sticky(all))
	address := serve(t, plane, listen(t))
	c := dial(t, address, "gateway", "session")

	first := whereabouts(t, c, replicas, people)
	count := make(map[uint32]int)
	for _, port := range first {
		count[port]++
	}
	// The share of a replica is binomial over 300 people, over a share of the ring that itself differs by 6 %.
	for _, r := range replicas {
		if got := count[r.endpoint.Port]; got < 35 || got > 120 {
			t.Errorf("replica :%d has %d of %d people, want about 75", r.endpoint.Port, got, people)
		}
	}
	// Another replica of the caller finds the same ones.
	for round, other := range []*client{c, dial(t, address, "gateway", "session")} {
		for i, port := range whereabouts(t, other, replicas, people) {
			if port != first[i] {
				t.Fatalf("round %d: person %d moved from :%d to :%d with the same endpoints", round, i, first[i], port)
			}
		}
	}

	// One drains: its people move, and some others, since the ring's points are dealt anew; but most stay.
	all[3].Draining = true
	set(t, plane, sticky(all))
	eventually(t, "nobody to be sent to the draining replica", func() bool {
		before := replicas[3].calls.Load()
		whereabouts(t, c, replicas, people)
		return replicas[3].calls.Load() == before
	})
	moved, theirs := 0, 0
	for i, port := range whereabouts(t, c, replicas, people) {
		switch {
		case first[i] == replicas[3].endpoint.Port:
			theirs++
		case port != first[i]:
			moved++
		}
	}
	t.Logf("4 → 3 replicas: %d of %d people had to move, %d others moved", theirs, people, moved)
	if stayed := people - theirs; moved > stayed/3 {
		t.Errorf("%d of %d people moved whose replica stayed, want a sixth", moved, stayed)
	}
}

// TestRingHashWithoutHeader: calls that carry no key go to random replicas, not all to one.
func TestRingHashWithoutHeader(t *testing.T) {
	plane, replicas := newPlane(t), newReplicas(t, 3)
	set(t, plane, Service{Name: "session", Endpoints: endpoints(replicas...), Policy: RingHash, HashHeader: affinity})
	c := dial(t, serve(t, plane, listen(t)), "gateway", "session")
	for range 600 {
		mustCall(t, c)
	}
	for _, r := range replicas {
		if got := r.calls.Load(); got < 120 || got > 280 {
			t.Errorf("replica :%d had %d of 600 calls, want about 200", r.endpoint.Port, got)
		}
	}
	// The policy can be changed while calls are made.
	stop := c.load(t, 2)
	set(t, plane, Service{Name: "session", Endpoints: endpoints(replicas...)})
	eventually(t, "calls to take turns", func() bool {
		var before, after [3]int64
		for i, r := range replicas {
			before[i] = r.calls.Load()
		}
		calls := c.next.Load()
		eventually(t, "300 calls", func() bool { return c.next.Load() >= calls+300 })
		for i, r := range replicas {
			after[i] = r.calls.Load() - before[i]
		}
		return max(after[0], after[1], after[2])-min(after[0], after[1], after[2]) <= 4
	})
	stop()
}

// TestRingHashDrainKeepsWeights: what a zone's endpoints weigh must not change while one of them drains.
func TestRingHashDrainKeepsWeights(t *testing.T) {
	weights := func(policy Policy, draining bool) string {
		endpoints := at(1, 2, 3)
		endpoints[0].Draining = draining
		return fmt.Sprint(assignment(Service{Policy: policy, Endpoints: endpoints}).GetEndpoints()[0].GetLoadBalancingWeight().GetValue())
	}
	for policy, want := range map[Policy]string{RingHash: "3 3", RoundRobin: "3 2"} {
		if got := weights(policy, false) + " " + weights(policy, true); got != want {
			t.Errorf("%s: the zone's weight before and during a drain is %s, want %s", policy, got, want)
		}
	}
}
