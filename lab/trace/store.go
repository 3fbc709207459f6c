package trace

import (
	"cmp"
	"container/list"
	"context"
	"encoding/hex"
	"slices"
	"sync"
	"time"

	coltracepb "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	tracepb "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	enginev1 "spillway.dev/proto/gen/spillway/engine/v1"
)

// maxStoreBytes bounds the encoded size of all kept spans. A span of the mesh
// takes about 600 bytes, a purchase about 30 spans.
const maxStoreBytes = 64 << 20

// Store keeps the latest traces and forgets the ones that have been quiet for
// longest. It is an OTLP TraceServiceServer and safe for concurrent use.
type Store struct {
	coltracepb.UnimplementedTraceServiceServer

	limit    int
	maxBytes int
	forward  *Forwarder

	mu      sync.Mutex
	byID    map[string]*list.Element // of *kept
	quiet   *list.List               // front: quiet for longest
	bytes   int
	dropped int64
}

// kept is what the store knows of one trace.
type kept struct {
	id    string
	parts []*tracepb.ResourceSpans
	bytes int
	spans int
	start uint64
	end   uint64
	// Span ids, to drop what an exporter sends a second time.
	seen map[string]struct{}
}

// NewStore makes a store of at most limit traces (at least one) and 64 MiB of
// spans, whichever is reached first.
func NewStore(limit int) *Store {
	return &Store{
		limit:    max(limit, 1),
		maxBytes: maxStoreBytes,
		byID:     make(map[string]*list.Element),
		quiet:    list.New(),
	}
}

// ForwardTo makes the store offer every request that it receives to f as well.
// Call it before the store is served.
func (s *Store) ForwardTo(f *Forwarder) { s.forward = f }

// Export takes spans in. It implements the OTLP trace service. Spans without a
// valid trace and span id are refused by a partial success, as OTLP wants.
func (s *Store) Export(_ context.Context, req *coltracepb.ExportTraceServiceRequest) (*coltracepb.ExportTraceServiceResponse, error) {
	if req == nil {
		return nil, status.Error(codes.InvalidArgument, "the export request is empty")
	}
	if s.forward != nil {
		s.forward.Offer(req)
	}
	var refused int64
	s.mu.Lock()
	for _, rs := range req.GetResourceSpans() {
		refused += s.add(rs)
	}
	s.mu.Unlock()
	resp := &coltracepb.ExportTraceServiceResponse{}
	if refused > 0 {
		resp.PartialSuccess = &coltracepb.ExportTracePartialSuccess{
			RejectedSpans: refused,
			ErrorMessage:  "spans without a 16-byte trace id and an 8-byte span id were refused",
		}
	}
	return resp, nil
}

// add sorts the spans of rs by trace and keeps them. It returns how many were
// refused. The caller holds mu.
func (s *Store) add(rs *tracepb.ResourceSpans) (refused int64) {
	type group struct {
		scopes map[int]*tracepb.ScopeSpans // by index in rs
		order  []int
	}
	groups := make(map[string]*group)
	for i, ss := range rs.GetScopeSpans() {
		for _, span := range ss.GetSpans() {
			if len(span.GetTraceId()) != 16 || len(span.GetSpanId()) != 8 {
				refused++
				continue
			}
			id := hex.EncodeToString(span.GetTraceId())
			g := groups[id]
			if g == nil {
				g = &group{scopes: make(map[int]*tracepb.ScopeSpans)}
				groups[id] = g
			}
			if g.scopes[i] == nil {
				g.scopes[i] = &tracepb.ScopeSpans{Scope: ss.GetScope(), SchemaUrl: ss.GetSchemaUrl()}
				g.order = append(g.order, i)
			}
			g.scopes[i].Spans = append(g.scopes[i].Spans, span)
		}
	}
	for id, g := range groups {
		part := &tracepb.ResourceSpans{Resource: rs.GetResource(), SchemaUrl: rs.GetSchemaUrl()}
		for _, i := range g.order {
			part.ScopeSpans = append(part.ScopeSpans, g.scopes[i])
		}
		s.keep(id, part)
	}
	return refused
}

// keep adds part, all of one trace, and makes room for it.
func (s *Store) keep(id string, part *tracepb.ResourceSpans) {
	el := s.byID[id]
	if el == nil {
		el = s.quiet.PushBack(&kept{id: id, seen: make(map[string]struct{})})
		s.byID[id] = el
	} else {
		s.quiet.MoveToBack(el)
	}
	t := el.Value.(*kept)
	fresh := t.withoutSeen(part)
	if len(fresh.ScopeSpans) == 0 {
		return
	}
	size := proto.Size(fresh)
	for s.quiet.Len() > s.limit || s.bytes+size > s.maxBytes {
		oldest := s.quiet.Front()
		if oldest == el {
			break
		}
		s.forget(oldest)
	}
	if s.bytes+size > s.maxBytes {
		// One trace alone is larger than the store: its later spans are lost.
		s.dropped += int64(countSpans(fresh))
		if t.spans == 0 {
			s.forget(el)
		}
		return
	}
	for _, ss := range fresh.ScopeSpans {
		for _, span := range ss.Spans {
			t.seen[string(span.SpanId)] = struct{}{}
			if t.spans == 0 || span.StartTimeUnixNano < t.start {
				t.start = span.StartTimeUnixNano
			}
			t.end = max(t.end, span.EndTimeUnixNano)
			t.spans++
		}
	}
	t.parts = append(t.parts, fresh)
	t.bytes += size
	s.bytes += size
}

func (s *Store) forget(el *list.Element) {
	t := el.Value.(*kept)
	s.quiet.Remove(el)
	delete(s.byID, t.id)
	s.bytes -= t.bytes
}

// withoutSeen is part without the spans that are kept already.
func (t *kept) withoutSeen(part *tracepb.ResourceSpans) *tracepb.ResourceSpans {
	out := &tracepb.ResourceSpans{Resource: part.Resource, SchemaUrl: part.SchemaUrl}
	for _, ss := range part.ScopeSpans {
		spans := slices.DeleteFunc(slices.Clone(ss.Spans), func(span *tracepb.Span) bool {
			_, ok := t.seen[string(span.SpanId)]
			return ok
		})
		if len(spans) > 0 {
			out.ScopeSpans = append(out.ScopeSpans, &tracepb.ScopeSpans{Scope: ss.Scope, SchemaUrl: ss.SchemaUrl, Spans: spans})
		}
	}
	return out
}

func countSpans(part *tracepb.ResourceSpans) (n int) {
	for _, ss := range part.ScopeSpans {
		n += len(ss.Spans)
	}
	return n
}

// Get returns the kept spans of a trace, or nil when there are none. The id is
// 32 lower-case hexadecimal digits. The spans are shared: do not change them.
func (s *Store) Get(id string) []*tracepb.ResourceSpans {
	s.mu.Lock()
	defer s.mu.Unlock()
	if el := s.byID[id]; el != nil {
		return slices.Clone(el.Value.(*kept).parts)
	}
	return nil
}

// List summarises at most n traces (all of them when n is 0): the slowest first,
// or the ones that began last first. A trace's duration is that of the whole
// tree, what runs after the answer included; it failed when its root did.
func (s *Store) List(slowest bool, n int) []*enginev1.TraceSummary {
	s.mu.Lock()
	all := make([]kept, 0, s.quiet.Len())
	for el := s.quiet.Front(); el != nil; el = el.Next() {
		t := *el.Value.(*kept)
		t.seen = nil
		all = append(all, t)
	}
	s.mu.Unlock()

	slices.SortFunc(all, func(a, b kept) int {
		if slowest {
			if c := cmp.Compare(b.length(), a.length()); c != 0 {
				return c
			}
		}
		return cmp.Or(cmp.Compare(b.start, a.start), cmp.Compare(a.id, b.id))
	})
	if n > 0 && n < len(all) {
		all = all[:n]
	}
	out := make([]*enginev1.TraceSummary, len(all))
	for i, t := range all {
		out[i] = t.summary()
	}
	return out
}

// Dropped is how many spans were lost because one trace filled the store.
func (s *Store) Dropped() int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.dropped
}

// length is the time from first start to last end; 0 when the spans lie.
func (t kept) length() time.Duration {
	if t.end < t.start {
		return 0
	}
	return time.Duration(t.end - t.start)
}

func (t kept) summary() *enginev1.TraceSummary {
	sum := &enginev1.TraceSummary{
		TraceId:   t.id,
		StartedAt: timestamppb.New(time.Unix(0, int64(t.start))),
		Duration:  durationpb.New(t.length()),
		Spans:     int32(t.spans),
	}
	if roots := Build(t.parts).Roots; len(roots) > 0 {
		sum.RootService, sum.RootName, sum.Failed = roots[0].Service, roots[0].Name, roots[0].Failed
	}
	return sum
}
