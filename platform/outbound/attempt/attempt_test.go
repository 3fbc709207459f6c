package attempt

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"spillway.dev/platform/knobs"
	"spillway.dev/platform/problem"
)

func incoming(ctx context.Context, numbers ...string) context.Context {
	return metadata.NewIncomingContext(ctx, metadata.MD{Header: numbers})
}

func TestOnlyWellFormedNumbersCount(t *testing.T) {
	for text, want := range map[string]int{"2": 2, "99": 99, "1": 1, "0": 1, "-2": 1, "100": 1, "02": 1, "+2": 1, " 2": 1, "2.0": 1, "": 1, "two": 1} {
		if got := Number(incoming(t.Context(), text)); got != want {
			t.Errorf("%q is attempt %d, want %d", text, got, want)
		}
	}
	if got := Number(incoming(t.Context(), "2", "3")); got != 1 {
		t.Errorf("given twice it is %d, want 1", got)
	}
	if got := Number(t.Context()); got != 1 {
		t.Errorf("given by nobody it is %d, want 1", got)
	}
}

func FuzzNumber(f *testing.F) {
	for _, seed := range []string{"2", "99", "100", "-1", "0x2", "٢"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		n := Number(incoming(t.Context(), text))
		if n < 1 || n > maxNumber || n > 1 && strconv.Itoa(n) != text {
			t.Errorf("%q is attempt %d", text, n)
		}
	})
}

func TestMarkReplacesANumberAndNothingElse(t *testing.T) {
	ctx := metadata.AppendToOutgoingContext(t.Context(), Header, "7", "k", "v")
	for n, want := range map[int]string{2: "2", 3: "3", 1000: "99"} {
		md, _ := metadata.FromOutgoingContext(Mark(ctx, n))
		if got := md.Get(Header); len(got) != 1 || got[0] != want || len(md.Get("k")) != 1 {
			t.Errorf("marked with %d a call carries %v, want %s", n, md, want)
		}
	}
	if md, _ := metadata.FromOutgoingContext(Mark(t.Context(), 2)); len(md.Get(Header)) != 1 {
		t.Errorf("without other metadata a call carries %v", md)
	}
}

func TestWorkThatNoRequestBeganHasNobodyToTell(t *testing.T) {
	Decide(t.Context()) // it must not fail
	if Decided(nil) || !Decided(metadata.Pairs(DecidedHeader, "1")) {
		t.Error("a trailer is read wrongly")
	}
}

func TestOfSharedWorkAllAreTold(t *testing.T) {
	begun, own := Share(t.Context())
	var first, second trailer
	one := grpc.NewContextWithServerTransportStream(t.Context(), &first)
	own.Tell(one)
	if first.md != nil {
		t.Error("nothing was decided on, and somebody is told")
	}
	Decide(begun)
	own.Tell(one)
	own.Tell(grpc.NewContextWithServerTransportStream(t.Context(), &second))
	if !Decided(first.md) || !Decided(second.md) {
		t.Errorf("two waited and are told %v and %v", first.md, second.md)
	}
	// A request that waits may itself be part of work that is shared.
	outer, others := Share(t.Context())
	own.Tell(outer)
	third := trailer{}
	others.Tell(grpc.NewContextWithServerTransportStream(t.Context(), &third))
	if !Decided(third.md) {
		t.Error("it does not go on from shared work to shared work")
	}
}

// trailer is the stream of a request, of which only that is of interest.
type trailer struct{ md metadata.MD }

func (*trailer) Method() string               { return "" }
func (*trailer) SetHeader(metadata.MD) error  { return nil }
func (*trailer) SendHeader(metadata.MD) error { return nil }

func (s *trailer) SetTrailer(md metadata.MD) error {
	s.md = metadata.Join(s.md, md)
	return nil
}

// TestAnAttemptEndsInTime uses a callee that answers only when told to give up,
// in virtual time.
func TestAnAttemptEndsInTime(t *testing.T) {
	for name, c := range map[string]struct {
		knob string
		call time.Duration // the call's own time
		took time.Duration
		want error
	}{
		"off":                    {"0s", time.Second, time.Second, status.Error(codes.DeadlineExceeded, "")},
		"shorter than the call":  {"300ms", time.Second, 300 * time.Millisecond, timedOut},
		"longer than the call":   {"2s", time.Second, time.Second, status.Error(codes.DeadlineExceeded, "")},
		"the call has no limit":  {"300ms", 0, 300 * time.Millisecond, timedOut},
		"exactly as the call's":  {"1s", time.Second, time.Second, status.Error(codes.DeadlineExceeded, "")},
		"a moment before its is": {"999ms", time.Second, 999 * time.Millisecond, timedOut},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				set := knobs.NewSet()
				limit := NewLimit(set)
				if err := set.Apply(map[string]string{"attempt.timeout": c.knob}); err != nil {
					t.Fatal(err)
				}
				ctx, cancel := t.Context(), context.CancelFunc(func() {})
				if c.call > 0 {
					ctx, cancel = context.WithTimeout(ctx, c.call)
				}
				defer cancel()
				begun := time.Now()
				err := limit.Unary(ctx, "/m", nil, nil, nil, func(ctx context.Context, _ string, _, _ any, _ *grpc.ClientConn, _ ...grpc.CallOption) error {
					<-ctx.Done()
					return status.FromContextError(ctx.Err()).Err()
				})
				if took := time.Since(begun); took != c.took {
					t.Errorf("it took %v, want %v", took, c.took)
				}
				if got := errors.Is(err, timedOut); got != errors.Is(c.want, timedOut) || status.Code(err) != codes.DeadlineExceeded {
					t.Errorf("it ended with %v, want %v", err, c.want)
				}
			})
		})
	}
}

func TestAnswersPassALimit(t *testing.T) {
	set := knobs.NewSet()
	limit := NewLimit(set)
	if err := set.Apply(map[string]string{"attempt.timeout": "1m"}); err != nil {
		t.Fatal(err)
	}
	refused := problem.New(codes.DeadlineExceeded, problem.DeadlineTooShort, "m").Retry(0)
	below := problem.New(codes.DeadlineExceeded, problem.AttemptTimeout, "of another hop").Retry(0)
	for _, c := range []struct{ given, want error }{
		{nil, nil}, {refused, refused}, {below, below},
		{status.Error(codes.Unavailable, "away"), status.Error(codes.Unavailable, "away")},
		{status.Error(codes.DeadlineExceeded, "the callee's clock was first"), timedOut},
		{problem.New(codes.DeadlineExceeded, problem.DeadlineExceeded, "m").Retry(0), timedOut},
	} {
		got := limit.Unary(t.Context(), "/m", nil, nil, nil, func(context.Context, string, any, any, *grpc.ClientConn, ...grpc.CallOption) error {
			return c.given
		})
		if fmt.Sprint(got) != fmt.Sprint(c.want) {
			t.Errorf("%v became %v, want %v", c.given, got, c.want)
		}
	}
	deadline, cancel := context.WithTimeout(t.Context(), 30*time.Second) // the call's time, shorter than an attempt's
	defer cancel()
	over := status.Error(codes.DeadlineExceeded, "m")
	if got := limit.Unary(deadline, "/m", nil, nil, nil, func(context.Context, string, any, any, *grpc.ClientConn, ...grpc.CallOption) error {
		return over
	}); got != over {
		t.Errorf("the end of the call's time became %v", got)
	}
}
