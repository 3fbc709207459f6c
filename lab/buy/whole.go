package buy

import (
	"context"
	"fmt"
	"slices"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"spillway.dev/lab/trace"
	enginev1 "spillway.dev/proto/gen/spillway/engine/v1"
)

// services are those that a purchase goes through, in order of first call.
var services = []string{Service, "gateway", "session", "catalog", "inventory", "order", "payment", "bank", "ticketing"}

// calm is how long no span may have come for a trace to count as whole: a span
// that has no children yet cannot tell that it will have some.
const calm = 300 * time.Millisecond

// Missing tells what keeps a tree from being the whole trace of a purchase; nil
// when it is.
func Missing(t *trace.Tree) []string {
	var missing []string
	there := t.Services()
	for _, s := range services {
		if !slices.Contains(there, s) {
			missing = append(missing, "no span of "+s)
		}
	}
	if len(t.Roots) > 1 {
		missing = append(missing, fmt.Sprintf("%d roots", len(t.Roots)))
	}
	return missing
}

// Await asks the engine for a trace until it is whole and no more spans come,
// or until ctx ends; then it gives what there is and what is missing.
func Await(ctx context.Context, engine enginev1.EngineServiceClient, id string) (tree *trace.Tree, missing []string, err error) {
	tree = &trace.Tree{}
	since := time.Now()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		resp, err := engine.GetTrace(ctx, &enginev1.GetTraceRequest{TraceId: id})
		switch {
		case err == nil:
			now := trace.Build(resp.GetResourceSpans())
			if now.Spans != tree.Spans {
				since = time.Now()
			}
			tree = now
		case ctx.Err() != nil || status.Code(err) == codes.DeadlineExceeded: // gRPC's clock may be a moment ahead
			return tree, Missing(tree), nil
		case status.Code(err) != codes.NotFound:
			return tree, nil, fmt.Errorf("ask the engine for trace %s: %w", id, err)
		}
		if missing = Missing(tree); missing == nil && time.Since(since) >= calm {
			return tree, nil, nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return tree, missing, nil
		}
	}
}
