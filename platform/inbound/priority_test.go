package inbound_test

import (
	"context"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"

	"spillway.dev/platform/capacity"
	"spillway.dev/platform/criticality"
	"spillway.dev/platform/problem"
	"spillway.dev/platform/refusal"
	inventoryv1 "spillway.dev/proto/gen/spillway/inventory/v1"
	sessionv1 "spillway.dev/proto/gen/spillway/session/v1"
)

func prioritized(ctx context.Context, priority string) context.Context {
	return metadata.AppendToOutgoingContext(ctx, criticality.Header, priority)
}

// What the first service is told is what the second is told.
func TestPriorityTravels(t *testing.T) {
	var seen []string
	back := start(t, "inventory", 0, handlers{inventory: seats{hold: func(ctx context.Context, _ *inventoryv1.HoldRequest) (*inventoryv1.HoldResponse, error) {
		seen = append(seen, criticality.Text(criticality.From(ctx)))
		return &inventoryv1.HoldResponse{}, nil
	}}})
	var inventory inventoryv1.InventoryServiceClient
	front := start(t, "session", 0, handlers{session: sessions{touch: func(ctx context.Context, _ *sessionv1.TouchRequest) (*sessionv1.TouchResponse, error) {
		seen = append(seen, criticality.Text(criticality.From(ctx)))
		_, err := inventory.Hold(ctx, goodHold())
		return &sessionv1.TouchResponse{}, err
	}}})
	inventory = inventoryv1.NewInventoryServiceClient(front.dial(t, "inventory", back.addr))
	client := sessionv1.NewSessionServiceClient(dial(t, front.addr))
	for _, priority := range []string{"critical/5", "sheddable/127", "", "urgent/5"} {
		ctx := t.Context()
		if priority != "" {
			ctx = prioritized(ctx, priority)
		}
		if _, err := client.Touch(ctx, &sessionv1.TouchRequest{Token: "t"}); err != nil {
			t.Fatal(err)
		}
		if _, _, ok := criticality.Parse(priority); !ok {
			priority = seen[0] // by chance
		}
		if !slices.Equal(seen, []string{priority, priority}) || priority == "" {
			t.Errorf("the two services were told %q, want %q", seen, priority)
		}
		seen = nil
	}
	wants(t, front.scrape(t), "spillway_criticality_malformed_total 1.0")
	wants(t, back.scrape(t), "spillway_criticality_malformed_total 0.0")
}

// While a replica is flooded, sheddable calls are refused and critical ones are not, and probes go past it all.
func TestShedding(t *testing.T) {
	r := start(t, "session", 0, handlers{session: sessions{touch: func(context.Context, *sessionv1.TouchRequest) (*sessionv1.TouchResponse, error) {
		return &sessionv1.TouchResponse{}, nil
	}}}, capacity.Config{Slots: 1, ServiceTime: 20 * time.Millisecond, Distribution: capacity.Constant})
	if err := r.knobs.Apply(map[string]string{"shed.mode": "priority", "shed.target": "1ms"}); err != nil {
		t.Fatal(err)
	}
	conn := dial(t, r.addr)
	client := sessionv1.NewSessionServiceClient(conn)
	touch := func(priority string) error {
		ctx, cancel := context.WithTimeout(prioritized(t.Context(), priority), 2*time.Second)
		defer cancel()
		_, err := client.Touch(ctx, &sessionv1.TouchRequest{Token: "t"})
		return err
	}
	var shed atomic.Int64
	var stop atomic.Bool
	var flood sync.WaitGroup
	for range 20 {
		flood.Go(func() {
			for !stop.Load() {
				if p := problem.From(touch("sheddable/64")); p != nil && p.Metadata[refusal.ByKey] == "shed" {
					shed.Add(1)
					if p.Reason != problem.Overloaded || !p.Retryable || p.RetryAfter <= 0 {
						t.Errorf("a shed call is answered with %+v", p)
						return
					}
				}
			}
		})
	}
	eventually(t, func() bool { return shed.Load() > 0 })
	for range 5 {
		if err := touch("critical/0"); problem.Reason(err) == problem.Overloaded {
			t.Errorf("a critical call is shed: %v", err)
		}
		if _, err := healthpb.NewHealthClient(conn).Check(t.Context(), &healthpb.HealthCheckRequest{}); err != nil {
			t.Errorf("a probe of an overloaded replica gives %v", err)
		}
	}
	stop.Store(true)
	flood.Wait()

	text := r.scrape(t)
	wants(t, text, `spillway_refused_total{by="shed",callee="",priority="critical"} 0.0`, "spillway_shed_level ", "spillway_shed_wait_seconds ")
	if strings.Contains(text, `spillway_refused_total{by="shed",callee="",priority="sheddable"} 0.0`) {
		t.Error("no shed call is counted")
	}
	for _, line := range r.logs.lines(t, "finished call") {
		if line["reason"] == problem.Overloaded {
			t.Fatalf("a shed call is logged: %v", line)
		}
	}
	if err := r.knobs.Apply(nil); err != nil {
		t.Fatal(err)
	}
	if err := touch("sheddable/127"); err != nil {
		t.Errorf("with shedding off a call gives %v", err)
	}
	wants(t, r.scrape(t), "spillway_shed_level 384.0")
}
