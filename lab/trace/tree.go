package trace

import (
	"cmp"
	"encoding/hex"
	"slices"
	"time"

	commonpb "go.opentelemetry.io/proto/otlp/common/v1"
	tracepb "go.opentelemetry.io/proto/otlp/trace/v1"
)

// Tree is a trace in the order of cause. It has several roots when spans are
// missing: a span whose parent never came is a root of its own.
type Tree struct {
	// ID is the trace id in hexadecimal digits; empty when there are no spans.
	ID string
	// Roots are in order of their start; true roots come before orphans.
	Roots []*Node
	// Start and End are the first start and the last end, clocks corrected.
	Start, End time.Time
	// Spans is how many spans the tree has.
	Spans int
}

// Node is one span.
type Node struct {
	SpanID, ParentID string
	Service          string
	// Instance is the replica that made the span (service.instance.id).
	Instance string
	Name     string
	Kind     tracepb.Span_SpanKind
	// Start and End are by the clock of the parent's process.
	Start, End time.Time
	// Skew is what was added to Start and End because the clock of this process
	// put the span before its cause.
	Skew time.Duration
	// Orphan tells that the span names a parent that is not among the spans.
	Orphan bool
	Failed bool
	// Reason is why it failed: the status message, or the RPC's status code.
	Reason   string
	Children []*Node
}

// Services are the names of the services in the tree, in order of first span.
func (t *Tree) Services() []string {
	var names []string
	for n := range t.All() {
		if !slices.Contains(names, n.Service) {
			names = append(names, n.Service)
		}
	}
	return names
}

// All yields every node, parents before children, in the order it is printed.
func (t *Tree) All() func(yield func(*Node) bool) {
	return func(yield func(*Node) bool) {
		var walk func(nodes []*Node) bool
		walk = func(nodes []*Node) bool {
			for _, n := range nodes {
				if !yield(n) || !walk(n.Children) {
					return false
				}
			}
			return true
		}
		walk(t.Roots)
	}
}

// Build makes a tree of spans. It is pure and takes anything: a span twice
// counts once, spans that are each other's parents are cut apart, and a span
// that begins before its cause in another process is moved (see correct).
func Build(parts []*tracepb.ResourceSpans) *Tree {
	t := &Tree{}
	nodes := make(map[string]*Node)
	var order []*Node
	for _, rs := range parts {
		service := textAttribute(rs.GetResource().GetAttributes(), "service.name")
		instance := textAttribute(rs.GetResource().GetAttributes(), "service.instance.id")
		for _, ss := range rs.GetScopeSpans() {
			for _, span := range ss.GetSpans() {
				n := newNode(span, cmp.Or(service, "unknown"), instance)
				if nodes[n.SpanID] != nil {
					continue
				}
				if t.ID == "" {
					t.ID = hex.EncodeToString(span.GetTraceId())
				}
				nodes[n.SpanID] = n
				order = append(order, n)
			}
		}
	}
	slices.SortStableFunc(order, byStart)
	cutCircles(nodes, order)
	for _, n := range order {
		parent := nodes[n.ParentID]
		switch {
		case n.ParentID == "":
			t.Roots = append(t.Roots, n)
		case n.Orphan || parent == nil:
			n.Orphan = true
			t.Roots = append(t.Roots, n)
		default:
			parent.Children = append(parent.Children, n)
		}
	}
	slices.SortStableFunc(t.Roots, func(a, b *Node) int {
		if a.Orphan != b.Orphan {
			if b.Orphan {
				return -1
			}
			return 1
		}
		return byStart(a, b)
	})
	for _, root := range t.Roots {
		correct(root)
	}
	for n := range t.All() {
		slices.SortStableFunc(n.Children, byStart)
		if t.Spans == 0 || n.Start.Before(t.Start) {
			t.Start = n.Start
		}
		if t.Spans == 0 || n.End.After(t.End) {
			t.End = n.End
		}
		t.Spans++
	}
	return t
}

// cutCircles makes an orphan of the earliest span of every circle of parents,
// which no sound program sends, so that the rest is a tree.
func cutCircles(nodes map[string]*Node, order []*Node) {
	settled := make(map[*Node]bool, len(order))
	for _, n := range order {
		var path []*Node
		onPath := make(map[*Node]int)
		for ; n != nil && !settled[n]; n = nodes[n.ParentID] {
			if i, again := onPath[n]; again {
				slices.MinFunc(path[i:], byStart).Orphan = true
				break
			}
			onPath[n] = len(path)
			path = append(path, n)
		}
		for _, p := range path {
			settled[p] = true
		}
	}
}

// correct moves spans that another process's clock put before their cause. The
// rule is that of Jaeger's clock skew adjuster, with one difference: a span that
// ends after its parent is left alone, for work that goes on after the answer (a
// consumer, a server whose client gave up) is no fault of a clock. A shorter
// child is centred in its parent, as if both network ways took the same time;
// a longer one begins with it. Spans of the same process move along.
func correct(n *Node) {
	for _, c := range n.Children {
		var by time.Duration
		switch {
		case c.process() == n.process():
			by = n.Skew
		case c.Start.Before(n.Start):
			slack := max(0, n.End.Sub(n.Start)-c.End.Sub(c.Start))
			by = n.Start.Add(slack / 2).Sub(c.Start)
		}
		c.Start, c.End, c.Skew = c.Start.Add(by), c.End.Add(by), by
		correct(c)
	}
}

func (n *Node) process() string { return n.Service + "\x00" + n.Instance }

func byStart(a, b *Node) int {
	return cmp.Or(a.Start.Compare(b.Start), b.End.Compare(a.End), cmp.Compare(a.SpanID, b.SpanID))
}

func newNode(span *tracepb.Span, service, instance string) *Node {
	n := &Node{
		SpanID:   hex.EncodeToString(span.GetSpanId()),
		ParentID: hex.EncodeToString(span.GetParentSpanId()),
		Service:  service,
		Instance: instance,
		Name:     span.GetName(),
		Kind:     span.GetKind(),
		Start:    time.Unix(0, int64(span.GetStartTimeUnixNano())),
		End:      time.Unix(0, int64(span.GetEndTimeUnixNano())),
		Failed:   span.GetStatus().GetCode() == tracepb.Status_STATUS_CODE_ERROR,
	}
	if n.End.Before(n.Start) {
		n.End = n.Start
	}
	if n.Failed {
		n.Reason = cmp.Or(span.GetStatus().GetMessage(),
			textAttribute(span.GetAttributes(), "error.type"),
			textAttribute(span.GetAttributes(), "rpc.response.status_code"))
	}
	return n
}

func textAttribute(attrs []*commonpb.KeyValue, key string) string {
	for _, kv := range attrs {
		if kv.GetKey() == key {
			return kv.GetValue().GetStringValue()
		}
	}
	return ""
}
