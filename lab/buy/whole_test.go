package buy

import (
	"context"
	"encoding/binary"
	"slices"
	"testing"
	"time"

	commonpb "go.opentelemetry.io/proto/otlp/common/v1"
	resourcepb "go.opentelemetry.io/proto/otlp/resource/v1"
	tracepb "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"spillway.dev/lab/trace"
	enginev1 "spillway.dev/proto/gen/spillway/engine/v1"
)

// chain is a trace in which every service called the next one.
func chain(names ...string) (parts []*tracepb.ResourceSpans) {
	id := func(n int) []byte {
		if n == 0 {
			return nil
		}
		return binary.BigEndian.AppendUint64(nil, uint64(n))
	}
	for i, name := range names {
		if name == "" {
			continue // its span never came
		}
		parts = append(parts, &tracepb.ResourceSpans{
			Resource: &resourcepb.Resource{Attributes: []*commonpb.KeyValue{{Key: "service.name",
				Value: &commonpb.AnyValue{Value: &commonpb.AnyValue_StringValue{StringValue: name}}}}},
			ScopeSpans: []*tracepb.ScopeSpans{{Spans: []*tracepb.Span{{TraceId: make([]byte, 16), SpanId: id(i + 1), ParentSpanId: id(i), StartTimeUnixNano: uint64(i)}}}},
		})
	}
	return parts
}

func TestMissingNamesWhatHasNotCome(t *testing.T) {
	if got := Missing(trace.Build(chain(services...))); got != nil {
		t.Errorf("a whole trace: got %v", got)
	}
	hole := slices.Clone(services)
	hole[6] = ""
	if got, want := Missing(trace.Build(chain(hole...))), []string{"no span of payment", "2 roots"}; !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

func TestAwaitWaitsUntilTheTraceIsWhole(t *testing.T) {
	engine := (&slow{traces: func(asked int) (*enginev1.GetTraceResponse, error) {
		if asked < 3 {
			return nil, status.Error(codes.NotFound, "no such trace")
		}
		return &enginev1.GetTraceResponse{ResourceSpans: chain(services[:min(asked, len(services))]...)}, nil
	}}).client(t)
	tree, missing, err := Await(t.Context(), engine, "x")
	if err != nil || missing != nil || tree.Spans != len(services) {
		t.Errorf("got %d spans, missing %v, %v", tree.Spans, missing, err)
	}
}

func TestAwaitIsBoundedAndSaysWhatIsMissing(t *testing.T) {
	engine := (&slow{traces: func(int) (*enginev1.GetTraceResponse, error) {
		return &enginev1.GetTraceResponse{ResourceSpans: chain(services[:len(services)-1]...)}, nil
	}}).client(t)
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	tree, missing, err := Await(ctx, engine, "x")
	if err != nil || !slices.Equal(missing, []string{"no span of ticketing"}) || tree.Spans != len(services)-1 {
		t.Errorf("got %d spans, missing %v, %v", tree.Spans, missing, err)
	}
}

func TestAwaitReportsAnEngineThatFails(t *testing.T) {
	engine := (&slow{traces: func(int) (*enginev1.GetTraceResponse, error) { return nil, status.Error(codes.Internal, "broken") }}).client(t)
	if _, _, err := Await(t.Context(), engine, "x"); status.Code(err) != codes.Internal {
		t.Errorf("got %v", err)
	}
}
