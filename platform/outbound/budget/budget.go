// Package budget bounds what a process sends beyond the calls that it was asked
// for: retries and hedges together are at most a tenth of its calls, whatever
// fails. A service that is down then gets 1.1 times its load and not three
// times (B. Beyer et al., "Site Reliability Engineering", 2016, chapter 21,
// "Handling Overload").
package budget

import (
	"fmt"

	"github.com/prometheus/client_golang/prometheus"

	"spillway.dev/platform/knobs"
)

// Budget is what all retries and hedges of a process share, whomever it calls.
// Safe for concurrent use.
type Budget struct {
	ratio         *knobs.Float
	bucket        bucket
	spent, denied *prometheus.CounterVec
}

// New declares the knob retry.budget_ratio in set and registers the budget's
// metrics with reg. The budget begins full.
func New(set *knobs.Set, reg prometheus.Registerer) (*Budget, error) {
	b := &Budget{
		ratio: set.Float("retry.budget_ratio", 0.1, 0, 1, "The share of its calls that a process may send again, retries and hedges together."),
		spent: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "spillway_retry_budget_spent_total",
			Help: "Attempts beyond a call's first that the retry budget allowed."}, []string{"by"}),
		denied: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "spillway_retry_budget_denied_total",
			Help: "Attempts beyond a call's first that the retry budget did not allow, and that were not sent."}, []string{"by"}),
	}
	b.bucket.left.Store(burst * token)
	left := prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "spillway_retry_budget_tokens",
		Help: "Attempts beyond a call's first that may be sent at once; 10 when nothing was spent."}, b.bucket.tokens)
	for _, c := range []prometheus.Collector{left, b.spent, b.denied} {
		if err := reg.Register(c); err != nil {
			return nil, fmt.Errorf("register the retry budget: %w", err)
		}
	}
	return b, nil
}

// Earn is for each call that is sent for the first time.
func (b *Budget) Earn() { b.bucket.put(b.ratio.Get()) }

// Spender takes from the budget on behalf of one protection.
type Spender struct {
	bucket        *bucket
	spent, denied prometheus.Counter
}

// Spender is for the protection of that name, "retry" or "hedge".
func (b *Budget) Spender(name string) *Spender {
	return &Spender{bucket: &b.bucket, spent: b.spent.WithLabelValues(name), denied: b.denied.WithLabelValues(name)}
}

// Spend tells whether one more attempt may be sent; true means that it is paid
// for.
func (s *Spender) Spend() bool {
	if !s.bucket.take() {
		s.denied.Inc()
		return false
	}
	s.spent.Inc()
	return true
}
