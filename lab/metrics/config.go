package metrics

import (
	"fmt"
	"log/slog"
	"math"
	"time"
)

// Intervals that no time-lapse goes below and that a time-lapse of 1 starts
// from.
const (
	// nominalScrape is the scrape interval that the rule files are written for.
	nominalScrape = 10 * time.Second
	// shortestInterval is the least real time between two scrapes of a replica,
	// or two evaluations of a rule: below, the lab would measure mostly itself.
	shortestInterval = 500 * time.Millisecond
	// nominalLookback is how long PromQL uses a sample that nothing followed;
	// Prometheus' own default.
	nominalLookback = 5 * time.Minute
)

// Config is what a store is opened with.
type Config struct {
	// Dir keeps the TSDB. It is made when it is not there; a store that is
	// there is continued.
	Dir string
	// RuleFiles are rule files in Prometheus' format, without time-lapse.
	RuleFiles []string
	// ScrapeInterval is the nominal time between scrapes of a target, and
	// between evaluations of rule groups that name none: 0 stands for 10 s. It
	// is divided by Timelapse, down to 500 ms.
	ScrapeInterval time.Duration
	// Timelapse is by how much the run is faster than what it stands for; 0
	// stands for 1.
	Timelapse float64
	// Listen is where the HTTP API is served; "" stands for a free port on
	// 127.0.0.1. It has no authentication: give a loopback address.
	Listen string
	// Log receives what the parts of Prometheus say, from warnings on. nil
	// throws it away.
	Log *slog.Logger
}

// Validate names the first setting that cannot be used.
func (c Config) Validate() error {
	switch {
	case c.Dir == "":
		return fmt.Errorf("metrics: Dir is empty; name the directory that keeps the series")
	case c.ScrapeInterval < 0:
		return fmt.Errorf("metrics: ScrapeInterval is %v; give a time above 0, or 0 for %v", c.ScrapeInterval, nominalScrape)
	case c.Timelapse != 0 && (math.IsNaN(c.Timelapse) || math.IsInf(c.Timelapse, 0) || c.Timelapse < 1):
		return fmt.Errorf("metrics: Timelapse is %v; give a factor from 1 on", c.Timelapse)
	}
	return nil
}

func (c Config) withDefaults() Config {
	if c.ScrapeInterval == 0 {
		c.ScrapeInterval = nominalScrape
	}
	if c.Timelapse == 0 {
		c.Timelapse = 1
	}
	if c.Listen == "" {
		c.Listen = "127.0.0.1:0"
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	return c
}

// interval is the real time between scrapes.
func (c Config) interval() time.Duration {
	real := time.Duration(float64(c.ScrapeInterval) / c.Timelapse).Round(time.Millisecond)
	return max(real, min(shortestInterval, c.ScrapeInterval))
}

// lookback is how long a sample counts that nothing followed.
func (c Config) lookback() time.Duration {
	const scrapes = 4 // one lost scrape, and a rule that reads what another wrote, must not make a hole
	return max(time.Duration(float64(nominalLookback)/c.Timelapse), scrapes*c.interval())
}
