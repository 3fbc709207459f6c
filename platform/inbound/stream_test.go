package inbound_test

import (
	"context"
	"errors"
	"io"
	"strings"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"spillway.dev/platform/identity"
	"spillway.dev/platform/problem"
	sessionv1 "spillway.dev/proto/gen/spillway/session/v1"
)

// touches is a service with one stream: it echoes tokens, panics at "panic",
// and fails at "fail".
func touches() *grpc.ServiceDesc {
	return &grpc.ServiceDesc{ServiceName: "spillway.test.v1.Stream", HandlerType: (*any)(nil), Streams: []grpc.StreamDesc{{
		StreamName: "Touch", ServerStreams: true, ClientStreams: true,
		Handler: func(_ any, s grpc.ServerStream) error {
			if _, ok := s.Context().Deadline(); !ok {
				return errors.New("a stream has no deadline")
			}
			for {
				var m sessionv1.TouchRequest
				switch err := s.RecvMsg(&m); {
				case errors.Is(err, io.EOF):
					return nil
				case err != nil:
					return err
				case m.GetToken() == "panic":
					panic("oh")
				case m.GetToken() == "fail":
					return problem.New(codes.NotFound, "GONE", "gone")
				}
				if err := s.SendMsg(&sessionv1.TouchResponse{PersonId: identity.Caller(s.Context())}); err != nil {
					return err
				}
			}
		},
	}}}
}

func TestStreamsPassTheSameChain(t *testing.T) {
	traces := newReceiver(t)
	back := start(t, "session", 1, handlers{streams: touches()})
	front := start(t, "order", 1, handlers{})
	conn := front.dial(t, "session", back.addr)
	for last, want := range map[string]codes.Code{"": codes.InvalidArgument, "panic": codes.Internal, "fail": codes.NotFound, "end": codes.OK} {
		s, err := conn.NewStream(t.Context(), &grpc.StreamDesc{ServerStreams: true, ClientStreams: true}, "/spillway.test.v1.Stream/Touch")
		if err != nil {
			t.Fatal(err)
		}
		if err := s.SendMsg(&sessionv1.TouchRequest{Token: "first"}); err != nil {
			t.Fatal(err)
		}
		var answer sessionv1.TouchResponse
		if err := s.RecvMsg(&answer); err != nil || answer.GetPersonId() != "order" {
			t.Fatalf("the first message gives %v, %v", &answer, err)
		}
		if last != "end" {
			if err := s.SendMsg(&sessionv1.TouchRequest{Token: last}); err != nil {
				t.Fatal(err)
			}
		}
		if err := s.CloseSend(); err != nil {
			t.Fatal(err)
		}
		err = s.RecvMsg(&answer)
		if errors.Is(err, io.EOF) {
			err = nil
		}
		if status.Code(err) != want {
			t.Errorf("after %q the stream ends with %v, want %v", last, err, want)
		}
	}
	front.end()
	back.end()
	if spans := traces.spans(); len(spans["session"]) != 4 || len(spans["order"]) != 4 {
		t.Errorf("%d and %d spans for four streams", len(spans["order"]), len(spans["session"]))
	}
	if n := len(back.logs.lines(t, "finished call")); n != 4 {
		t.Errorf("%d finish lines for four traced streams", n)
	}
	for side, metrics := range map[string]string{"server": back.scrape(t), "client": front.scrape(t)} {
		for _, code := range []string{"OK", "InvalidArgument", "Internal", "NotFound"} {
			line := `grpc_` + side + `_handled_total{callee="session",caller="order",grpc_code="` + code + `",grpc_method="Touch",grpc_service="spillway.test.v1.Stream",grpc_type="bidi_stream"} 1`
			if !strings.Contains(metrics, line) {
				t.Errorf("the metrics have no line %s", line)
			}
		}
	}
}

// TestAStreamGivenUpEndsItsSpan is about callers who cancel and read no more.
func TestAStreamGivenUpEndsItsSpan(t *testing.T) {
	traces := newReceiver(t)
	back := start(t, "session", 1, handlers{streams: touches()})
	front := start(t, "order", 1, handlers{})
	ctx, cancel := context.WithCancel(t.Context())
	s, err := front.dial(t, "session", back.addr).NewStream(ctx, &grpc.StreamDesc{ServerStreams: true, ClientStreams: true}, "/spillway.test.v1.Stream/Touch")
	if err != nil {
		t.Fatal(err)
	}
	if err := s.SendMsg(&sessionv1.TouchRequest{Token: "first"}); err != nil {
		t.Fatal(err)
	}
	cancel()
	eventually(t, func() bool { return len(traces.spans()["order"]) == 1 })
}
