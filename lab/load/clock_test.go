package load

import (
	"context"
	"encoding/csv"
	"strings"
	"testing"
	"time"
)

func TestPreciseAlarmIsNeverEarly(t *testing.T) {
	for _, wait := range []time.Duration{-time.Second, 0, time.Microsecond, time.Millisecond, 30 * time.Millisecond} {
		due := time.Now().Add(wait)
		if !preciseAlarm(t.Context(), due) || time.Now().Before(due) {
			t.Errorf("a wait of %s ended early", wait)
		}
	}
}

func TestPreciseAlarmHearsTheEndOfItsContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	rang := make(chan bool)
	go func() { rang <- preciseAlarm(ctx, time.Now().Add(time.Hour)) }()
	cancel()
	if <-rang {
		t.Error("it rang an hour early")
	}
	if preciseAlarm(ctx, time.Now().Add(-time.Second)) {
		t.Error("what is due after the end is not begun")
	}
}

func TestRowsAreOneASecond(t *testing.T) {
	rec := newRecorder()
	rec.end(begun(rec, Browse, 0, time.Millisecond), 250*time.Millisecond, time.Second, nil)
	rec.end(begun(rec, Buy, 1500*time.Millisecond, 0), 50*time.Millisecond, time.Second, context.DeadlineExceeded)
	r := report(Default(), time.Now(), 3*time.Second, false, newPeople(nil, "", 1, nil), rec)
	var b strings.Builder
	if err := csv.NewWriter(&b).WriteAll(r.Rows()); err != nil {
		t.Fatal(err)
	}
	want := `second,offered,good,late,refused,shed,errors,p50_ms,p99_ms,p999_ms,max_ms,lag_p99_ms,browse_offered,browse_good,seatmap_offered,seatmap_good,buy_offered,buy_good,list_offered,list_good,critical_offered,critical_good,standard_offered,standard_good,sheddable_offered,sheddable_good
0,1,1,0,0,0,0,250.111,250.111,250.111,250.111,1.000,1,1,0,0,0,0,0,0,0,0,1,1,0,0
1,1,0,0,0,0,1,0.000,0.000,0.000,0.000,0.001,0,0,0,0,1,0,0,0,0,0,1,0,0,0
2,0,0,0,0,0,0,0.000,0.000,0.000,0.000,0.000,0,0,0,0,0,0,0,0,0,0,0,0,0,0
`
	if b.String() != want {
		t.Errorf("got\n%s\nwant\n%s", b.String(), want)
	}
}
