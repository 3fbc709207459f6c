package breaker

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"spillway.dev/platform/problem"
	"spillway.dev/platform/refusal"
)

func TestWhatACallSays(t *testing.T) {
	const slow = time.Second
	// As they come over RPC.
	over := func(code codes.Code, reason string) error {
		return problem.New(code, reason, "m").GRPCStatus().Err()
	}
	for name, c := range map[string]struct {
		err  error
		took time.Duration
		want verdict
	}{
		"an answer":                        {nil, 0, well},
		"a slow answer":                    {nil, slow, ailing},
		"just in time":                     {nil, slow - 1, well},
		"connection refused":               {status.Error(codes.Unavailable, "refused"), 0, ailing},
		"its store is away":                {over(codes.Unavailable, problem.DependencyAway), 0, ailing},
		"too late":                         {status.Error(codes.DeadlineExceeded, "late"), 0, ailing},
		"cannot end in time":               {over(codes.DeadlineExceeded, problem.DeadlineTooShort), 0, ailing},
		"a fault":                          {over(codes.Internal, problem.Internal), 0, ailing},
		"a foreign fault":                  {status.Error(codes.Unknown, "odd"), 0, ailing},
		"its fault, wrapped":               {fmt.Errorf("charge: %w", over(codes.Internal, problem.Internal)), 0, ailing},
		"this process's own odd error":     {errors.New("odd"), 0, ailing},
		"the caller's time is up":          {context.DeadlineExceeded, 0, ailing},
		"it sheds":                         {over(codes.ResourceExhausted, problem.Overloaded), 0, nothing},
		"it keeps a quota":                 {over(codes.ResourceExhausted, "QUOTA_EXCEEDED"), 0, nothing},
		"it sheds slowly":                  {over(codes.ResourceExhausted, problem.Overloaded), slow, ailing},
		"refused on this side":             {refusal.Overloaded("pacing", 0, "m"), 0, nothing},
		"refused on this side, after long": {refusal.Overloaded("pacing", 0, "m"), slow, nothing},
		"the caller went":                  {status.Error(codes.Canceled, "gone"), 0, nothing},
		"the caller went after long":       {status.Error(codes.Canceled, "gone"), slow, ailing},
		"there is none":                    {over(codes.NotFound, problem.ShowUnknown), 0, well},
		"declined":                         {over(codes.FailedPrecondition, "CARD_DECLINED"), 0, well},
		"a bad request":                    {over(codes.InvalidArgument, problem.InvalidArgument), 0, well},
		"slowly declined":                  {over(codes.FailedPrecondition, "CARD_DECLINED"), slow, ailing},
	} {
		if got := judge(c.err, c.took, slow); got != c.want {
			t.Errorf("%s: verdict %d, want %d", name, got, c.want)
		}
	}
	if judge(nil, time.Hour, 0) != well {
		t.Error("of a stream the length says something")
	}
}

func TestWhenABreakerOpens(t *testing.T) {
	for _, c := range []struct {
		succeeded, failed uint32
		ratio             float64
		want              bool
	}{
		{0, 19, 0.5, false}, // too few to say
		{0, 20, 0.5, true},
		{10, 10, 0.5, true},
		{11, 10, 0.5, false},
		{100, 99, 0.5, false},
		{0, 20, 1, true},
		{1, 1000, 1, false},
		{99, 1, 0.01, true},
		{100, 1, 0.01, false},
	} {
		if got := tripped(c.succeeded, c.failed, c.ratio); got != c.want {
			t.Errorf("%d of %d failed, ratio %v: opens %v, want %v", c.failed, c.failed+c.succeeded, c.ratio, got, c.want)
		}
	}
}
