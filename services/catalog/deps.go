package main

import (
	"cmp"
	"context"
	"time"

	"google.golang.org/grpc/codes"
	_ "google.golang.org/grpc/xds" // the xds:/// resolver

	"spillway.dev/platform/boot"
	"spillway.dev/platform/problem"
	inventoryv1 "spillway.dev/proto/gen/spillway/inventory/v1"
)

// retryAfter is what a caller is told to wait when inventory is away.
const retryAfter = 200 * time.Millisecond

// downstreams is everything the catalog calls.
type downstreams struct {
	inventory inventoryv1.InventoryServiceClient
}

func dial(app *boot.App, cfg *config) (downstreams, error) {
	conn, err := app.Dial("inventory", cfg.InventoryTarget)
	if err != nil {
		return downstreams{}, err
	}
	return downstreams{inventory: inventoryv1.NewInventoryServiceClient(conn)}, nil
}

// availability asks inventory which seats of a show are taken.
func (d downstreams) availability(ctx context.Context, showID string) (*inventoryv1.GetAvailabilityResponse, error) {
	resp, err := d.inventory.GetAvailability(ctx, &inventoryv1.GetAvailabilityRequest{ShowId: showID})
	if err != nil {
		return nil, passOn(err)
	}
	return resp, nil
}

// passOn is an error of inventory as our callers see it: its code, reason and details. What the transport made up gets a
// text of our own, since its own tells addresses.
func passOn(err error) error {
	p := problem.From(err)
	switch {
	case p.Code == codes.Unavailable:
		return problem.New(p.Code, problem.DependencyAway, "inventory is away; try again").
			// What inventory itself misses is told on: it has answered.
			Retry(max(p.RetryAfter, retryAfter)).With("dependency", cmp.Or(p.Metadata["dependency"], "inventory")).Because(err)
	case p.Code == codes.DeadlineExceeded && p.Reason == problem.DeadlineExceeded:
		return problem.New(p.Code, p.Reason, "inventory did not answer in time").Retry(0).With("dependency", "inventory").Because(err)
	case p.Reason == "":
		return problem.New(codes.Internal, problem.Internal, "inventory failed; its log has the cause").Because(err)
	}
	return p
}
