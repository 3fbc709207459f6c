package nodepool

import (
	"errors"
	"fmt"
	"time"
)

// Config is what a pool is like. All nodes are alike but for being spot or not.
type Config struct {
	// CPU is what a node can allocate to pods, in cores.
	CPU float64 `yaml:"cpu"`
	// Min is how many nodes there are at the start, ready at once, and at least.
	Min int `yaml:"min"`
	// Max is how many there are at most, those on their way included and those that
	// are being taken back not.
	Max int `yaml:"max"`
	// ProvisionDelay is the time from asking for a node to its being ready: the
	// autoscaler's own scan, the machine's start, the kubelet's.
	ProvisionDelay time.Duration `yaml:"provision-delay"`
	// EmptyFor is how long a node has been without pods when it is removed; 0
	// means that none ever is. Kubernetes' cluster autoscaler waits for 10 minutes
	// (--scale-down-unneeded-time).
	EmptyFor time.Duration `yaml:"empty-for"`
	// Spot is there where some nodes are spot nodes.
	Spot *Spot `yaml:"spot"`
}

// Spot is about nodes that cost less and may be taken back.
type Spot struct {
	// OnDemand is how many nodes are not spot nodes: they come first.
	OnDemand int `yaml:"on-demand"`
	// Every is the time between two nodes that are taken back: each time it is
	// the oldest spot node's turn. It must not be 0.
	Every time.Duration `yaml:"every"`
	// Notice is the time from the warning until the node is gone; 0 means 2
	// minutes, as with the largest provider.
	Notice time.Duration `yaml:"notice"`
}

// defaultNotice is how long before a spot instance of Amazon EC2 is gone it is
// warned. https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/spot-instance-termination-notices.html
const defaultNotice = 2 * time.Minute

// maxNodes bounds a pool: more is a slip of the finger.
const maxNodes = 1000

// Validate tells what is wrong, by the names that a file uses.
func (c Config) Validate() error {
	var errs []error
	refuse := func(format string, args ...any) { errs = append(errs, fmt.Errorf("nodes: "+format, args...)) }
	if !(c.CPU >= 0.001 && c.CPU <= 1024) {
		refuse("cpu is %v; give a node 0.001 to 1024 cores", c.CPU)
	}
	if c.Min < 0 || c.Min > maxNodes {
		refuse("min is %d; give 0 to %d", c.Min, maxNodes)
	}
	if c.Max < max(c.Min, 1) || c.Max > maxNodes {
		refuse("max is %d; give at least 1 and min, at most %d", c.Max, maxNodes)
	}
	if c.ProvisionDelay < 0 {
		refuse("provision-delay is %v; it cannot be negative", c.ProvisionDelay)
	}
	if c.EmptyFor < 0 {
		refuse("empty-for is %v; it cannot be negative", c.EmptyFor)
	}
	if s := c.Spot; s != nil {
		if s.OnDemand < 0 {
			refuse("spot.on-demand is %d; it cannot be negative", s.OnDemand)
		}
		if s.Every <= 0 {
			refuse("spot.every is %v; give the time between two nodes that are taken back", s.Every)
		}
		if s.Notice < 0 {
			refuse("spot.notice is %v; it cannot be negative", s.Notice)
		}
	}
	return errors.Join(errs...)
}

// Faster divides every delay by n, for a run in time-lapse.
func (c Config) Faster(n float64) Config {
	divide := func(d time.Duration) time.Duration { return time.Duration(float64(d) / n) }
	c.ProvisionDelay, c.EmptyFor = divide(c.ProvisionDelay), divide(c.EmptyFor)
	if c.Spot != nil {
		spot := *c.Spot
		if spot.Notice == 0 {
			spot.Notice = defaultNotice
		}
		spot.Every, spot.Notice = divide(spot.Every), divide(spot.Notice)
		c.Spot = &spot
	}
	return c
}
