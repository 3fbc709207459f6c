package audit

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	bankv1 "spillway.dev/proto/gen/spillway/bank/v1"
	orderv1 "spillway.dev/proto/gen/spillway/order/v1"
	paymentv1 "spillway.dev/proto/gen/spillway/payment/v1"
)

// quiet is an office in which nothing is under way.
func quiet() *Snapshot {
	s := office()
	s.Orders[3].State = orderv1.OrderState_ORDER_STATE_CANCELLED
	s.Payments[3].State = paymentv1.PaymentState_PAYMENT_STATE_REFUNDED
	s.Transactions[3].State = bankv1.TransactionState_TRANSACTION_STATE_REFUNDED
	return s
}

func settle(t *testing.T, readings ...func() (*Snapshot, error)) (*Report, time.Duration, error) {
	t.Helper()
	begin := time.Now()
	n := 0
	r, err := Settle(t.Context(), func(context.Context) (*Snapshot, error) {
		read := readings[min(n, len(readings)-1)]
		n++
		return read()
	}, 10*time.Second, grace, time.Second)
	return r, time.Since(begin), err
}

func of(s *Snapshot) func() (*Snapshot, error) { return func() (*Snapshot, error) { return s, nil } }

func away() (*Snapshot, error) { return nil, errors.New("redis is away") }

func TestSettleIsDoneAtOnceWhenAllIsQuietAndWell(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, took, err := settle(t, of(quiet()))
		if err != nil || took != 0 || r.Readings != 1 || len(r.Violations) != 0 {
			t.Errorf("got %+v after %s, %v", r, took, err)
		}
	})
}

func TestSettleWaitsForWorkUnderWay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, took, err := settle(t, of(office()), away, of(office()), of(quiet()))
		if err != nil || took != 3*time.Second || r.Unsettled != 0 || len(r.Violations) != 0 {
			t.Errorf("got %+v after %s, %v", r, took, err)
		}
	})
}

func TestSettleReportsWhatStands(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		bad := quiet()
		bad.Transactions[0].Captures = 2
		r, took, err := settle(t, of(bad))
		if err != nil || took != 10*time.Second || len(r.Violations) != 1 || r.Violations[0].Rule != ChargedTwice {
			t.Errorf("got %+v after %s, %v", r, took, err)
		}
	})
}

func TestSettleForgetsWhatPasses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		// Traffic never ends: each reading catches another order between two stores.
		n := 0
		r, took, err := settle(t, func() (*Snapshot, error) {
			n++
			s := office()
			s.Transactions[n%2].Captures = 2
			return s, nil
		})
		if err != nil || took != 10*time.Second || len(r.Violations) != 0 || r.Unsettled != 1 {
			t.Errorf("got %+v after %s, %v", r, took, err)
		}
	})
}

func TestSettleGivesUpOnAStoreThatIsAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, took, err := settle(t, away)
		if err == nil || took != 10*time.Second || !strings.Contains(err.Error(), "redis is away") {
			t.Errorf("got %v after %s", err, took)
		}
	})
}

func TestSettleStopsWithItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), 2500*time.Millisecond)
		defer cancel()
		_, err := Settle(ctx, func(context.Context) (*Snapshot, error) { return office(), nil }, time.Minute, grace, time.Second)
		if !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("got %v", err)
		}
	})
}

func TestReportText(t *testing.T) {
	bad := office()
	bad.Transactions[0].Captures = 2
	var b strings.Builder
	if err := (&Report{Result: Check(bad, grace), WaitedS: 30}).WriteText(&b); err != nil {
		t.Fatal(err)
	}
	want := `orders           4   cancelled 2, confirmed 1, paid 1
payments         4   captured 1, declined 1, pending 1, refunded 1
bank             4   captured 2, declined 1, refunded 1
tickets          1
refunds          1
holds            5   confirmed 1, expired 1, held 2, released 1
seats            2   sold, in 1 shows

1 orders were still under way after 30 s and are judged only by their age.
VIOLATIONS: 1
charged-twice         o-1: money was taken 2 times
`
	if b.String() != want {
		t.Errorf("got:\n%s\nwant:\n%s", b.String(), want)
	}
	b.Reset()
	if err := (&Report{Result: Check(quiet(), grace)}).WriteText(&b); err != nil {
		t.Fatal(err)
	}
	if !strings.HasSuffix(b.String(), "\nevery invariant holds\n") {
		t.Errorf("got:\n%s", b.String())
	}
}
