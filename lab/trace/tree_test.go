package trace

import (
	"encoding/binary"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	commonpb "go.opentelemetry.io/proto/otlp/common/v1"
	resourcepb "go.opentelemetry.io/proto/otlp/resource/v1"
	tracepb "go.opentelemetry.io/proto/otlp/trace/v1"
)

const (
	server   = tracepb.Span_SPAN_KIND_SERVER
	client   = tracepb.Span_SPAN_KIND_CLIENT
	consumer = tracepb.Span_SPAN_KIND_CONSUMER
	internal = tracepb.Span_SPAN_KIND_INTERNAL
)

// at is the instant that every offset in these tests counts from.
var at = time.Unix(1_700_000_000, 0)

func spanID(n uint64) []byte {
	if n == 0 {
		return nil
	}
	return binary.BigEndian.AppendUint64(nil, n)
}

func traceID(n byte) []byte { return append(make([]byte, 15), n) }

// span is a span of trace 1, in milliseconds since at.
func span(id, parent uint64, name string, kind tracepb.Span_SpanKind, from, to float64) *tracepb.Span {
	nanos := func(ms float64) uint64 { return uint64(at.UnixNano() + int64(ms*1e6)) }
	return &tracepb.Span{
		TraceId: traceID(1), SpanId: spanID(id), ParentSpanId: spanID(parent),
		Name: name, Kind: kind, StartTimeUnixNano: nanos(from), EndTimeUnixNano: nanos(to),
	}
}

func failed(s *tracepb.Span, message string) *tracepb.Span {
	s.Status = &tracepb.Status{Code: tracepb.Status_STATUS_CODE_ERROR, Message: message}
	return s
}

func from(service, instance string, spans ...*tracepb.Span) *tracepb.ResourceSpans {
	text := func(k, v string) *commonpb.KeyValue {
		return &commonpb.KeyValue{Key: k, Value: &commonpb.AnyValue{Value: &commonpb.AnyValue_StringValue{StringValue: v}}}
	}
	return &tracepb.ResourceSpans{
		Resource:   &resourcepb.Resource{Attributes: []*commonpb.KeyValue{text("service.name", service), text("service.instance.id", instance)}},
		ScopeSpans: []*tracepb.ScopeSpans{{Spans: spans}},
	}
}

// purchase is a trace as the mesh makes it, ticketing across JetStream included.
func purchase() []*tracepb.ResourceSpans {
	return []*tracepb.ResourceSpans{
		from("ticketing", "ticketing-1",
			span(40, 24, "orders.paid process", consumer, 121, 140)),
		from("bank", "bank-1",
			span(33, 32, "spillway.bank.v1.BankService/Charge", server, 61, 105)),
		from("order", "order-1",
			span(21, 12, "spillway.order.v1.OrderService/Checkout", server, 11, 118),
			span(22, 21, "spillway.inventory.v1.InventoryService/Hold", client, 14, 52),
			span(23, 21, "spillway.payment.v1.PaymentService/Charge", client, 55, 110),
			span(24, 21, "orders.paid publish", tracepb.Span_SPAN_KIND_PRODUCER, 112, 114)),
		from("gateway", "gateway-1",
			span(11, 1, "spillway.gateway.v1.GatewayService/Checkout", server, 2, 120),
			span(12, 11, "spillway.order.v1.OrderService/Checkout", client, 10, 119)),
		from("inventory", "inventory-1",
			span(31, 22, "spillway.inventory.v1.InventoryService/Hold", server, 15, 51)),
		from("payment", "payment-1",
			failed(span(30, 23, "spillway.payment.v1.PaymentService/Charge", server, 55.5, 56), "replica is draining"),
			span(32, 23, "spillway.payment.v1.PaymentService/Charge", server, 57, 109)),
		from("spillway", "cli",
			span(1, 0, "buy", internal, 0, 121)),
	}
}

// sketch writes a tree as nested names.
func sketch(nodes []*Node) string {
	var parts []string
	for _, n := range nodes {
		s := n.Name
		if n.Orphan {
			s = "?" + s
		}
		if len(n.Children) > 0 {
			s += "(" + sketch(n.Children) + ")"
		}
		parts = append(parts, s)
	}
	return strings.Join(parts, " ")
}

func TestBuildMakesATreeOfWhateverSpansCame(t *testing.T) {
	for _, tc := range []struct {
		name  string
		parts []*tracepb.ResourceSpans
		want  string
	}{
		{"nothing", nil, ""},
		{"children in order of start", []*tracepb.ResourceSpans{from("s", "1",
			span(3, 1, "c", internal, 5, 6), span(2, 1, "b", internal, 1, 2), span(1, 0, "a", internal, 0, 9))}, "a(b c)"},
		{"same start: the longer one first", []*tracepb.ResourceSpans{from("s", "1",
			span(3, 1, "c", internal, 1, 2), span(2, 1, "b", internal, 1, 3), span(1, 0, "a", internal, 0, 9))}, "a(b c)"},
		{"a parent that never came", []*tracepb.ResourceSpans{from("s", "1",
			span(2, 9, "b", internal, 1, 2), span(3, 2, "c", internal, 1, 2))}, "?b(c)"},
		{"a root before an earlier orphan", []*tracepb.ResourceSpans{from("s", "1",
			span(2, 9, "b", internal, 1, 2), span(1, 0, "a", internal, 3, 4))}, "a ?b"},
		{"two roots", []*tracepb.ResourceSpans{from("s", "1",
			span(2, 0, "b", internal, 4, 5), span(1, 0, "a", internal, 3, 4))}, "a b"},
		{"a span that came twice", []*tracepb.ResourceSpans{
			from("s", "1", span(1, 0, "a", internal, 3, 4)), from("s", "1", span(1, 0, "a", internal, 3, 4))}, "a"},
		{"its own parent", []*tracepb.ResourceSpans{from("s", "1", span(1, 1, "a", internal, 3, 4))}, "?a"},
		{"a circle with a tail", []*tracepb.ResourceSpans{from("s", "1",
			span(1, 3, "tail", internal, 0, 1), span(2, 3, "x", internal, 1, 4), span(3, 2, "y", internal, 2, 4))}, "?x(y(tail))"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			tree := Build(tc.parts)
			if got := sketch(tree.Roots); got != tc.want {
				t.Errorf("got %q, want %q", got, tc.want)
			}
		})
	}
}

func TestBuildOfAPurchaseIsOneTreeThroughEveryService(t *testing.T) {
	tree := Build(purchase())
	if len(tree.Roots) != 1 || tree.Spans != 12 {
		t.Fatalf("got %d roots and %d spans, want 1 and 12: %s", len(tree.Roots), tree.Spans, sketch(tree.Roots))
	}
	want := []string{"spillway", "gateway", "order", "inventory", "payment", "bank", "ticketing"}
	if got := tree.Services(); !slices.Equal(got, want) {
		t.Errorf("services in order of cause: got %v, want %v", got, want)
	}
	if got := tree.End.Sub(tree.Start); got != 140*time.Millisecond {
		t.Errorf("the tree lasts until the ticket is issued: got %s, want 140ms", got)
	}
}

func TestBuildCorrectsClocksThatPutASpanBeforeItsCause(t *testing.T) {
	for _, tc := range []struct {
		name      string
		child     *tracepb.ResourceSpans
		wantStart float64 // milliseconds since at
		wantSkew  float64
	}{
		{"within its parent: left alone", from("b", "1", span(2, 1, "child", server, 20, 40)), 20, 0},
		{"too early: centred", from("b", "1", span(2, 1, "child", server, -500, -440)), 30, 530},
		{"too early and longer: begins with its parent", from("b", "1", span(2, 1, "child", server, -500, -300)), 10, 510},
		{"ends after its parent: left alone", from("b", "1", span(2, 1, "child", consumer, 80, 300)), 80, 0},
		{"begins after its parent ended: left alone", from("b", "1", span(2, 1, "child", consumer, 200, 300)), 200, 0},
		{"same process: one clock", from("a", "1", span(2, 1, "child", internal, -5, 40)), -5, 0},
		{"another replica of the same service", from("a", "2", span(2, 1, "child", server, -500, -440)), 30, 530},
	} {
		t.Run(tc.name, func(t *testing.T) {
			under := from("b", "1", span(3, 2, "under", internal, 25, 26))
			if tc.child.Resource.Attributes[0].Value.GetStringValue() == "a" {
				under = from("a", tc.child.Resource.Attributes[1].Value.GetStringValue(), under.ScopeSpans[0].Spans...)
			}
			tree := Build([]*tracepb.ResourceSpans{from("a", "1", span(1, 0, "parent", client, 10, 110)), tc.child, under})
			child := tree.Roots[0].Children[0]
			if got := child.Start.Sub(at).Seconds() * 1000; got != tc.wantStart {
				t.Errorf("start: got %v ms, want %v ms", got, tc.wantStart)
			}
			if got := child.Skew.Seconds() * 1000; got != tc.wantSkew {
				t.Errorf("skew: got %v ms, want %v ms", got, tc.wantSkew)
			}
			if got := child.Children[0].Skew; got != child.Skew {
				t.Errorf("what the same process did under it moves along: got %s, want %s", got, child.Skew)
			}
		})
	}
}

func TestWaterfall(t *testing.T) {
	broken := append(purchase()[2:], from("late", "1", span(50, 99, "orphan", server, 30, 31)))
	for _, s := range broken[1].ScopeSpans[0].Spans { // the gateway's clock is 3 s behind
		s.StartTimeUnixNano -= 3e9
		s.EndTimeUnixNano -= 3e9
	}
	nasty := []*tracepb.ResourceSpans{from("evil\x1b[2J", "1", failed(span(1, 0, "a\nb\x00", internal, 0, 0), "line\r\nline \x1b]0;title\a"))}
	for _, tc := range []struct {
		golden string
		parts  []*tracepb.ResourceSpans
		width  int
	}{
		{"purchase_120.txt", purchase(), 120},
		{"purchase_80.txt", purchase(), 80},
		{"purchase_50.txt", purchase(), 50},
		{"orphan_and_skew_100.txt", broken, 100},
		{"control_characters_80.txt", nasty, 80},
		{"empty.txt", nil, 80},
	} {
		t.Run(tc.golden, func(t *testing.T) {
			var b strings.Builder
			if err := Build(tc.parts).Waterfall(&b, tc.width); err != nil {
				t.Fatal(err)
			}
			for line := range strings.Lines(b.String()) {
				if got := utf8.RuneCountInString(strings.TrimSuffix(line, "\n")); got > tc.width && !strings.HasPrefix(line, "1 span without") && !strings.HasPrefix(line, "The clock of") {
					t.Errorf("%d columns in a terminal of %d: %q", got, tc.width, line)
				}
			}
			golden(t, tc.golden, b.String())
		})
	}
}

func TestDurationKeepsThreeDigits(t *testing.T) {
	for d, want := range map[time.Duration]string{
		0: "0.00 ms", 1234 * time.Microsecond: "1.23 ms", 9999 * time.Microsecond: "10.0 ms", 45678 * time.Microsecond: "45.7 ms",
		999600 * time.Microsecond: "1.00 s", 182 * time.Millisecond: "182 ms", 12345 * time.Millisecond: "12.35 s", -time.Millisecond: "-1.00 ms",
	} {
		if got := Duration(d); got != want {
			t.Errorf("Duration(%d): got %q, want %q", d, got, want)
		}
	}
}
