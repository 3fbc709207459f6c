package budget

import (
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"spillway.dev/platform/knobs"
)

func full() *bucket {
	b := &bucket{}
	b.left.Store(burst * token)
	return b
}

// TestNoStretchOfTimeGetsMoreThanItsShare draws histories and looks at all of
// their stretches, not only at those from the beginning.
func TestNoStretchOfTimeGetsMoreThanItsShare(t *testing.T) {
	for seed := range uint64(200) {
		draw := rand.New(rand.NewPCG(seed, 1))
		share, wish := float64(draw.IntN(token+1))/token, draw.Float64()
		b := full()
		calls, taken := []int{0}, []int{0} // sums up to each step
		for range 300 {
			c, n := calls[len(calls)-1], taken[len(taken)-1]
			if draw.Float64() < wish {
				if b.take() {
					n++
				}
			} else {
				b.put(share)
				c++
			}
			calls, taken = append(calls, c), append(taken, n)
		}
		for from := range calls {
			for to := from; to < len(calls); to++ {
				got, most := taken[to]-taken[from], burst+share*float64(calls[to]-calls[from])
				if float64(got) > most+1e-9 {
					t.Fatalf("seed %d: share %v, steps %d to %d: %d taken, at most %v may be", seed, share, from, to, got, most)
				}
			}
		}
	}
}

// TestNoInterleavingGetsMore has many put and take at once.
func TestNoInterleavingGetsMore(t *testing.T) {
	const workers, each, share = 8, 5000, 0.1
	b := full()
	var taken atomic.Int64
	var all sync.WaitGroup
	for range workers {
		all.Go(func() {
			for range each {
				b.put(share)
				if b.take() { // everything fails
					taken.Add(1)
				}
			}
		})
	}
	all.Wait()
	const most = burst + workers*each*share
	if got := taken.Load(); got > most || got < most-burst-1 {
		t.Errorf("%d attempts were paid for by %d calls, want at most %v, and nearly as many", got, workers*each, float64(most))
	}
}

func TestTheShareIsAKnobAndFiguresAreShown(t *testing.T) {
	set, reg := knobs.NewSet(), prometheus.NewPedanticRegistry()
	b, err := New(set, reg)
	if err != nil {
		t.Fatal(err)
	}
	retry, hedge := b.Spender("retry"), b.Spender("hedge")
	for range burst - 1 {
		if !retry.Spend() {
			t.Fatal("a budget begins with a burst")
		}
	}
	if !hedge.Spend() || hedge.Spend() || retry.Spend() {
		t.Error("retries and hedges share one budget")
	}
	if err := set.Apply(map[string]string{"retry.budget_ratio": "0.5"}); err != nil {
		t.Fatal(err)
	}
	b.Earn()
	if retry.Spend() {
		t.Error("half a token was spent as a whole one")
	}
	b.Earn()
	if !retry.Spend() {
		t.Error("two halves are one")
	}
	for range 1000 {
		b.Earn()
	}
	if err := testutil.GatherAndCompare(reg, strings.NewReader(`
# HELP spillway_retry_budget_denied_total Attempts beyond a call's first that the retry budget did not allow, and that were not sent.
# TYPE spillway_retry_budget_denied_total counter
spillway_retry_budget_denied_total{by="hedge"} 1
spillway_retry_budget_denied_total{by="retry"} 2
# HELP spillway_retry_budget_spent_total Attempts beyond a call's first that the retry budget allowed.
# TYPE spillway_retry_budget_spent_total counter
spillway_retry_budget_spent_total{by="hedge"} 1
spillway_retry_budget_spent_total{by="retry"} 10
# HELP spillway_retry_budget_tokens Attempts beyond a call's first that may be sent at once; 10 when nothing was spent.
# TYPE spillway_retry_budget_tokens gauge
spillway_retry_budget_tokens 10
`)); err != nil {
		t.Error(err)
	}
	if _, err := New(knobs.NewSet(), reg); err == nil {
		t.Error("two budgets on one registry")
	}
}
