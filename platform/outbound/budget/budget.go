// Package budget bounds what a process sends beyond the calls that it was asked
// for: retries and hedges together are at most a tenth of its calls, of all of
// them and of those to each service, whatever fails. A service that is down then
// gets 1.1 times its load and not three times (B. Beyer et al., "Site Reliability
// Engineering", 2016, chapter 21, "Handling Overload").
package budget

import (
	"fmt"
	"sync"

	"github.com/prometheus/client_golang/prometheus"

	"spillway.dev/platform/knobs"
)

// Budget is what all retries and hedges of a process share, whomever it calls.
// Safe for concurrent use.
type Budget struct {
	ratio         *knobs.Float
	whole         bucket
	left          *prometheus.Desc
	spent, denied *prometheus.CounterVec

	mu       sync.Mutex
	accounts map[string]*Account
}

// New declares the knob retry.budget_ratio in set and registers the budget's
// metrics with reg. The budget begins full.
func New(set *knobs.Set, reg prometheus.Registerer) (*Budget, error) {
	b := &Budget{
		ratio: set.Float("retry.budget_ratio", 0.1, 0, 1, "The share of its calls that a process may send again, retries and hedges together."),
		left: prometheus.NewDesc("spillway_retry_budget_tokens",
			"Attempts beyond a call's first that may be sent to a callee at once; 10 when nothing was spent.", []string{"callee"}, nil),
		spent: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "spillway_retry_budget_spent_total",
			Help: "Attempts beyond a call's first that the retry budget allowed."}, []string{"by"}),
		denied: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "spillway_retry_budget_denied_total",
			Help: "Attempts beyond a call's first that the retry budget did not allow, and that were not sent."}, []string{"by"}),
		accounts: make(map[string]*Account),
	}
	b.whole.left.Store(burst * token)
	for _, c := range []prometheus.Collector{tokens{b}, b.spent, b.denied} {
		if err := reg.Register(c); err != nil {
			return nil, fmt.Errorf("register the retry budget: %w", err)
		}
	}
	return b, nil
}

// For is the account for calls to callee, a name in the mesh: the same one each
// time. It begins full.
func (b *Budget) For(callee string) *Account {
	b.mu.Lock()
	defer b.mu.Unlock()
	a := b.accounts[callee]
	if a == nil {
		a = &Account{budget: b}
		a.own.left.Store(burst * token)
		b.accounts[callee] = a
	}
	return a
}

// Account is the part of the budget that calls to one service have earned. An
// attempt is paid for by it and by the whole: else calls that go well to one
// service would pay for more than a tenth at another that does not, and a process
// with many callees would have as many bursts. Safe for concurrent use.
type Account struct {
	budget *Budget
	own    bucket
}

// Earn is for each call that is sent for the first time.
func (a *Account) Earn() {
	share := a.budget.ratio.Get()
	a.own.put(share)
	a.budget.whole.put(share)
}

// take removes a token from both buckets, or none, and tells which.
func (a *Account) take() bool {
	if !a.own.take() {
		return false
	}
	if a.budget.whole.take() {
		return true
	}
	a.own.put(1)
	return false
}

// Spender takes from an account on behalf of one protection.
type Spender struct {
	account       *Account
	spent, denied prometheus.Counter
}

// Spender is for the protection of that name, "retry" or "hedge".
func (a *Account) Spender(name string) *Spender {
	return &Spender{account: a, spent: a.budget.spent.WithLabelValues(name), denied: a.budget.denied.WithLabelValues(name)}
}

// Spend tells whether one more attempt may be sent; true means that it is paid
// for.
func (s *Spender) Spend() bool {
	if !s.account.take() {
		s.denied.Inc()
		return false
	}
	s.spent.Inc()
	return true
}

// tokens collects what may be sent to each callee at once.
type tokens struct{ *Budget }

// Describe implements prometheus.Collector.
func (t tokens) Describe(to chan<- *prometheus.Desc) { to <- t.left }

// Collect implements prometheus.Collector.
func (t tokens) Collect(to chan<- prometheus.Metric) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for callee, a := range t.accounts {
		to <- prometheus.MustNewConstMetric(t.left, prometheus.GaugeValue, min(a.own.tokens(), t.whole.tokens()), callee)
	}
}
