package audit

import (
	"context"
	"fmt"
	"slices"
	"time"
)

// Report is the outcome of an audit.
type Report struct {
	Result
	// Readings is how often the stores were read.
	Readings int `json:"readings"`
	// WaitedS is how long the audit waited for work under way to end.
	WaitedS float64 `json:"waited_s"`
}

// Settle reads and judges until nothing is under way and nothing is wrong, or
// until it has waited for settle. The stores cannot be read at one instant, and
// an order that is being undone breaks rules for a moment. So a reading finds
// against the mesh only what the reading before it, every earlier, found too.
// A read that fails is tried again as long; the last error is returned.
func Settle(ctx context.Context, read func(context.Context) (*Snapshot, error), settle, grace, every time.Duration) (*Report, error) {
	begin := time.Now()
	var before []Violation
	for n := 1; ; n++ {
		s, err := read(ctx)
		waited := time.Since(begin)
		if err == nil {
			r := &Report{Result: Check(s, grace), Readings: n, WaitedS: waited.Seconds()}
			if len(r.Violations) == 0 && r.Unsettled == 0 {
				return r, nil
			}
			if waited >= settle {
				if before != nil {
					r.Violations = slices.DeleteFunc(r.Violations, func(v Violation) bool { return !found(before, v) })
				}
				return r, nil
			}
			before = append([]Violation{}, r.Violations...)
		} else if waited >= settle || ctx.Err() != nil {
			return nil, err
		}
		select {
		case <-time.After(every):
		case <-ctx.Done():
			return nil, fmt.Errorf("audit: stopped before the stores were quiet: %w", ctx.Err())
		}
	}
}

func found(in []Violation, v Violation) bool {
	return slices.ContainsFunc(in, func(o Violation) bool { return o.Rule == v.Rule && o.ID == v.ID })
}
