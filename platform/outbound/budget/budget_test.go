package budget

import (
	"math/rand/v2"
	"strconv"
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

// TestACalleeIsNotPaidForByAnother has calls to session go well, and all to
// catalog fail: those earn nothing for these.
func TestACalleeIsNotPaidForByAnother(t *testing.T) {
	b, err := New(knobs.NewSet(), prometheus.NewRegistry())
	if err != nil {
		t.Fatal(err)
	}
	well, failing := b.For("session"), b.For("catalog")
	spender, spent := failing.Spender("retry"), 0
	const calls = 1000
	for range calls {
		well.Earn()
		failing.Earn()
		if spender.Spend() {
			spent++
		}
	}
	if most := burst + calls/10; spent > most || spent < most-1 {
		t.Errorf("%d retries of %d calls to catalog, want %d", spent, calls, most)
	}
	// The tokens of session's own are there; what it begins with is not given out
	// again by the whole, beyond what was earned.
	other, more := well.Spender("retry"), 0
	for other.Spend() {
		more++
	}
	if more != burst {
		t.Errorf("%d retries to session at once, want %d", more, burst)
	}
}

// TestAllCalleesTogetherAreBounded has many services fail at once, on many
// goroutines: a tenth of each's calls, and one burst in all.
func TestAllCalleesTogetherAreBounded(t *testing.T) {
	b, err := New(knobs.NewSet(), prometheus.NewRegistry())
	if err != nil {
		t.Fatal(err)
	}
	const callees, workers, each = 4, 3, 2000
	var taken [callees]atomic.Int64
	var all sync.WaitGroup
	for i := range callees {
		account := b.For(strconv.Itoa(i))
		for range workers {
			all.Go(func() {
				spender := account.Spender("retry")
				for range each {
					account.Earn()
					if spender.Spend() {
						taken[i].Add(1)
					}
				}
			})
		}
	}
	all.Wait()
	sum := int64(0)
	for i := range taken {
		got := taken[i].Load()
		if most := int64(burst + workers*each/10); got > most {
			t.Errorf("callee %d: %d attempts were paid for, want at most %d", i, got, most)
		}
		sum += got
	}
	if most := int64(burst + callees*workers*each/10); sum > most || sum < most-callees*burst {
		t.Errorf("%d attempts were paid for in all, want at most %d, and nearly as many", sum, most)
	}
}

func TestTheShareIsAKnobAndFiguresAreShown(t *testing.T) {
	set, reg := knobs.NewSet(), prometheus.NewPedanticRegistry()
	b, err := New(set, reg)
	if err != nil {
		t.Fatal(err)
	}
	account := b.For("inventory")
	retry, hedge := account.Spender("retry"), b.For("inventory").Spender("hedge")
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
	account.Earn()
	if retry.Spend() {
		t.Error("half a token was spent as a whole one")
	}
	account.Earn()
	if !retry.Spend() {
		t.Error("two halves are one")
	}
	for range 1000 {
		account.Earn()
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
# HELP spillway_retry_budget_tokens Attempts beyond a call's first that may be sent to a callee at once; 10 when nothing was spent.
# TYPE spillway_retry_budget_tokens gauge
spillway_retry_budget_tokens{callee="inventory"} 10
`)); err != nil {
		t.Error(err)
	}
	if _, err := New(knobs.NewSet(), reg); err == nil {
		t.Error("two budgets on one registry")
	}
}
