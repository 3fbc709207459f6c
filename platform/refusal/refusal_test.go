package refusal_test

import (
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"google.golang.org/grpc/codes"

	"spillway.dev/platform/criticality"
	"spillway.dev/platform/problem"
	"spillway.dev/platform/refusal"
)

func TestRefusalsAreCountedByClass(t *testing.T) {
	reg := prometheus.NewRegistry()
	counter, err := refusal.New(reg)
	if err != nil {
		t.Fatal(err)
	}
	in, out := counter.Inbound("shed"), counter.Outbound("breaker", "bank")
	in.Count(criticality.With(t.Context(), criticality.Sheddable, 3))
	in.Count(t.Context())
	out.Count(criticality.With(t.Context(), criticality.Critical, 0))
	if err := testutil.GatherAndCompare(reg, strings.NewReader(`
# HELP spillway_refused_total Calls refused on purpose, by the protection that refused, the call's class, and the dependency that it was meant for; callee is empty for calls into this service.
# TYPE spillway_refused_total counter
spillway_refused_total{by="breaker",callee="bank",priority="critical"} 1
spillway_refused_total{by="breaker",callee="bank",priority="sheddable"} 0
spillway_refused_total{by="breaker",callee="bank",priority="standard"} 0
spillway_refused_total{by="shed",callee="",priority="critical"} 0
spillway_refused_total{by="shed",callee="",priority="sheddable"} 1
spillway_refused_total{by="shed",callee="",priority="standard"} 1
`)); err != nil {
		t.Error(err)
	}
	ctx := criticality.With(t.Context(), criticality.Sheddable, 3)
	if n := testing.AllocsPerRun(100, func() { in.Count(ctx) }); n > 0 {
		t.Errorf("counting allocates %v times", n)
	}
}

func TestOverloadedCrossesRPC(t *testing.T) {
	answer := refusal.Overloaded("shed", time.Second, "100% of the slots are taken")
	got := problem.From(answer.GRPCStatus().Err())
	if got.Code != codes.ResourceExhausted || got.Reason != problem.Overloaded || got.Metadata[refusal.ByKey] != "shed" ||
		got.RetryAfter != time.Second || !got.Retryable || got.Message != "100% of the slots are taken" {
		t.Errorf("the answer comes over as %+v", got)
	}
	if first := answer.GRPCStatus(); first != answer.GRPCStatus() {
		t.Error("the status is made on each call")
	}
	if !refusal.OnPurpose(answer) || !refusal.OnPurpose(answer.GRPCStatus().Err()) || refusal.OnPurpose(nil) ||
		refusal.OnPurpose(problem.New(codes.ResourceExhausted, problem.MessageTooLarge, "too large")) {
		t.Error("a refusal on purpose is not told from others")
	}
	if more := answer.With("x", "y"); problem.From(more.GRPCStatus().Err()).Metadata["x"] != "y" {
		t.Error("a copy with another fact has the old status")
	}
}
