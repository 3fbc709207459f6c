package probe

import (
	"context"
	"time"
)

// Run asks until ctx ends and calls changed with every new verdict.
func Run(ctx context.Context, t Timing, initial Verdict, check Check, changed func(Verdict, error)) {
	m := NewMachine(t, initial, time.Now())
	verdict := initial
	for {
		timer := time.NewTimer(time.Until(m.Next()))
		select {
		case <-ctx.Done():
			timer.Stop()
			return
		case <-timer.C:
		}
		asked := time.Now()
		checkCtx, cancel := context.WithTimeout(ctx, t.Timeout)
		err := check(checkCtx)
		cancel()
		if ctx.Err() != nil {
			return
		}
		if v := m.Observe(asked, err == nil); v != verdict {
			verdict = v
			changed(v, err)
		}
	}
}
