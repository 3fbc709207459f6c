package backpressure

import (
	"math"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc/metadata"
)

func TestMeter(t *testing.T) {
	var m Meter
	at := time.Unix(1000, 0)
	for i := range 1000 { // 50 a second for 20 s
		now := at.Add(time.Duration(i) * 20 * time.Millisecond)
		m.Count(now)
		if got := m.Rate(now); now.Sub(at) > time.Second && (got < 45 || got > 50.01) {
			t.Fatalf("after %v: %.1f/s, want 45 to 50", now.Sub(at), got)
		}
	}
	at = at.Add(20 * time.Second)
	if got := m.Rate(at.Add(500 * time.Millisecond)); got < 15 || got > 30 {
		t.Errorf("half a second after the last call: %.1f/s, want about 25", got)
	}
	if got := m.Rate(at.Add(time.Hour)); got != 0 {
		t.Errorf("an hour after the last call: %.1f/s, want none", got)
	}
	m.Count(at) // a clock that goes back
	if got := m.Rate(at.Add(time.Hour)); got != 1 {
		t.Errorf("one call: %.1f/s", got)
	}
}

func TestTheFirstCallIsNoRush(t *testing.T) {
	var m Meter
	now := time.Unix(1000, 0)
	m.Count(now)
	if got := m.Rate(now.Add(900 * time.Millisecond)); got > 1.2 {
		t.Errorf("one call in a second: %.1f/s", got)
	}
}

func TestTextIsParsedBack(t *testing.T) {
	for _, p := range []float64{0, 0.001, 0.5, 1, 1.25, 99.999, 1000} {
		if got, ok := Parse(Text(p)); !ok || math.Abs(got-p) > 0.0005 {
			t.Errorf("%v becomes %q becomes %v, %v", p, Text(p), got, ok)
		}
	}
	for p, want := range map[float64]string{-1: "0.000", 5000: "1000.000", math.Inf(1): "1000.000"} {
		if got := Text(p); got != want {
			t.Errorf("%v is written %q, want %q", p, got, want)
		}
	}
	for _, text := range []string{"", "1", "1.0", "+1.000", "-1.000", "1e3.000", "1000.001", "9999.000", "0x1.000", "NaN.000", "1,000", " 1.000", "1.0000"} {
		if got, ok := Parse(text); ok {
			t.Errorf("%q is taken for %v", text, got)
		}
	}
}

func FuzzParse(f *testing.F) {
	for _, text := range []string{"0.000", "1.250", "1000.000", "x", "....", "1.00.000"} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		if p, ok := Parse(text); ok && (!(p >= 0 && p <= most) || Text(p) == "") {
			t.Fatalf("%q is taken for %v", text, p)
		}
	})
}

func TestTrailersThatTellNothing(t *testing.T) {
	for _, md := range []metadata.MD{nil, {}, {Header: nil}, {Header: {"1.000", "2.000"}}, {Header: {"much"}}} {
		if p, told := fromTrailer(md); told {
			t.Errorf("%v tells %v", md, p)
		}
	}
	if p, told := fromTrailer(metadata.MD{Header: {"2.500"}}); !told || p != 2.5 {
		t.Errorf("2.500 tells %v, %v", p, told)
	}
}

func TestTheTightestCounts(t *testing.T) {
	var tightest Tightest
	var noting sync.WaitGroup
	for range 8 {
		noting.Go(func() {
			for range 1000 {
				tightest.Note(rand.Float64())
			}
			tightest.Note(2.5)
		})
	}
	noting.Wait()
	tightest.Note(math.NaN())
	if got := tightest.Pressure(); got != 2.5 {
		t.Errorf("the tightest of up to 2.5 is %v", got)
	}
}
