package load

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"
	"time"
)

func text(c Config) string {
	var b strings.Builder
	for a := range c.Arrivals() {
		fmt.Fprintln(&b, a)
	}
	return b.String()
}

func TestArrivalsDependOnTheConfigAlone(t *testing.T) {
	c := Default()
	if first, again := text(c), text(c); first != again {
		t.Error("the same config gave two schedules")
	}
	other := c
	other.Seed++
	if text(c) == text(other) {
		t.Error("two seeds gave one schedule")
	}
}

func TestArrivalsAreAPoissonProcess(t *testing.T) {
	c := Default()
	c.Rate, c.For = 200, 100*time.Second
	arrivals := slices.Collect(c.Arrivals())
	n := float64(len(arrivals))
	if want := 20_000.0; math.Abs(n-want) > 4*math.Sqrt(want) {
		t.Errorf("arrivals: got %v, want %v within four standard deviations", n, want)
	}
	var gaps, squares float64
	var buys int
	last := time.Duration(0)
	for i, a := range arrivals {
		if a.Number != i || a.At < last || a.At >= c.For || a.Person < 0 || a.Person >= c.People {
			t.Fatalf("arrival %d is out of order or out of bounds: %+v", i, a)
		}
		gap := (a.At - last).Seconds()
		gaps, squares, last = gaps+gap, squares+gap*gap, a.At
		if a.Kind == Buy {
			buys++
		}
	}
	// The standard deviation of an exponential distribution is its mean.
	mean := gaps / n
	if cv := math.Sqrt(squares/n-mean*mean) / mean; math.Abs(cv-1) > 0.03 {
		t.Errorf("coefficient of variation of the gaps: got %.3f, want 1", cv)
	}
	if got := float64(buys) / n; math.Abs(got-c.BuyRatio) > 0.015 {
		t.Errorf("share of purchases: got %.3f, want %.3f", got, c.BuyRatio)
	}
}

func TestArrivalsCanAllBeOfOneKind(t *testing.T) {
	for ratio, want := range map[float64]Kind{0: Browse, 1: Buy} {
		c := Default()
		c.BuyRatio = ratio
		for a := range c.Arrivals() {
			if a.Kind != want {
				t.Fatalf("buy ratio %v: got a journey that is to %s", ratio, a.Kind)
			}
		}
	}
}

func TestValidateNamesWhatIsWrong(t *testing.T) {
	if err := Default().Validate(); err != nil {
		t.Errorf("the default: %v", err)
	}
	for want, change := range map[string]func(*Config){
		"rate":            func(c *Config) { c.Rate = 0 },
		"rate is NaN":     func(c *Config) { c.Rate = math.NaN() },
		"rate is 200000":  func(c *Config) { c.Rate = 200_000 },
		"for":             func(c *Config) { c.For = 0 },
		"buy ratio":       func(c *Config) { c.BuyRatio = 1.1 },
		"people":          func(c *Config) { c.People = 0 },
		"browse deadline": func(c *Config) { c.BrowseDeadline = 0 },
		"buy deadline":    func(c *Config) { c.BuyDeadline = -1 },
	} {
		c := Default()
		change(&c)
		if err := c.Validate(); err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("got %v, want an error that begins with %q", err, want)
		}
	}
}
