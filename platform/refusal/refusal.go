// Package refusal is how every protection says no: one counter for all of them, and one shape of answer.
package refusal

import (
	"context"
	"fmt"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc/codes"

	"spillway.dev/platform/criticality"
	"spillway.dev/platform/problem"
)

// ByKey is the metadata key under which a problem names the protection that refused.
const ByKey = "by"

// Counter counts what a process refuses on purpose, as spillway_refused_total. There is one in a process. Safe for
// concurrent use.
type Counter struct {
	total *prometheus.CounterVec
}

// New registers the counter with reg.
func New(reg prometheus.Registerer) (*Counter, error) {
	c := &Counter{total: prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "spillway_refused_total",
		Help: "Calls refused on purpose, by the protection that refused, the call's class, and the dependency that it was meant for; callee is empty for calls into this service.",
	}, []string{"by", "priority", "callee"})}
	if err := reg.Register(c.total); err != nil {
		return nil, fmt.Errorf("register the counter of refusals: %w", err)
	}
	return c, nil
}

// By is the counter of one protection. Its methods allocate nothing.
type By struct {
	classes [criticality.Classes]prometheus.Counter
}

// Inbound is for a protection of this service; protection is its name, such as "shed". All classes begin at 0.
func (c *Counter) Inbound(protection string) *By { return c.Outbound(protection, "") }

// Outbound is for a protection of calls to callee, a name in the mesh.
func (c *Counter) Outbound(protection, callee string) *By {
	by := &By{}
	for class := range by.classes {
		by.classes[class] = c.total.WithLabelValues(protection, criticality.Class(class).String(), callee)
	}
	return by
}

// Count counts one refused call, by the class in its ctx.
func (b *By) Count(ctx context.Context) {
	class, _ := criticality.From(ctx)
	b.classes[min(class, criticality.Classes-1)].Inc()
}

// Overloaded makes the answer of a protection that refuses because there is too much to do: RESOURCE_EXHAUSTED,
// OVERLOADED, with the protection's name as metadata "by". It is made once and given to every call that is refused.
func Overloaded(protection string, after time.Duration, message string) *problem.Problem {
	return problem.New(codes.ResourceExhausted, problem.Overloaded, "%s", message).
		With(ByKey, protection).Retry(after).Prepared()
}

// OnPurpose tells whether an error is the answer of a protection, of this service or of one that it called.
func OnPurpose(err error) bool {
	p := problem.From(err)
	return p != nil && p.Metadata[ByKey] != ""
}
