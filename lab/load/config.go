package load

import (
	"fmt"
	"time"
)

// Config says what load to offer.
type Config struct {
	// Rate is how many journeys begin per second on average.
	Rate float64
	// For is how long journeys begin; those under way then are waited for.
	For time.Duration
	// Seed fixes who arrives when to do what. The same Config gives the same
	// schedule.
	Seed uint64
	// BuyRatio is the share of journeys that buy, 0 to 1; the others browse.
	BuyRatio float64
	// People is how many different people arrive. Each signs in at the first
	// journey and keeps the session.
	People int
	// BrowseDeadline and BuyDeadline are how long a person waits, from the
	// intended begin of the journey.
	BrowseDeadline, BuyDeadline time.Duration
}

// Default is the mix of an ordinary day. The deadlines leave room for the
// modelled service times of every hop: a purchase visits six services.
func Default() Config {
	return Config{
		Rate:           100,
		For:            time.Minute,
		Seed:           2, // its first minute at 100/s has 6019 arrivals: a first run shows what was asked for
		BuyRatio:       0.2,
		People:         200,
		BrowseDeadline: 2 * time.Second,
		BuyDeadline:    5 * time.Second,
	}
}

// Validate names the first setting that makes no sense.
func (c Config) Validate() error {
	switch {
	case !(c.Rate > 0 && c.Rate <= 100_000):
		return fmt.Errorf("rate is %v; give journeys per second above 0 and up to 100000", c.Rate)
	case c.For <= 0:
		return fmt.Errorf("for is %s; give a duration above 0, such as 60s", c.For)
	case !(c.BuyRatio >= 0 && c.BuyRatio <= 1):
		return fmt.Errorf("buy ratio is %v; give a share from 0 to 1", c.BuyRatio)
	case c.People < 1:
		return fmt.Errorf("people is %d; at least 1 has to come", c.People)
	case c.BrowseDeadline <= 0:
		return fmt.Errorf("browse deadline is %s; give a duration above 0", c.BrowseDeadline)
	case c.BuyDeadline <= 0:
		return fmt.Errorf("buy deadline is %s; give a duration above 0", c.BuyDeadline)
	}
	return nil
}
