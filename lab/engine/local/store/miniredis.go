package store

import (
	"fmt"
	"sync"
	"time"

	"github.com/alicebob/miniredis/v2"
)

// tick is how often time passes in a MiniRedis.
const tick = 50 * time.Millisecond

// MiniRedis stands in for Redis where no redis-server is installed. It is slow
// and forgets everything when the engine ends.
type MiniRedis struct {
	redis   *miniredis.Miniredis
	address string
	stopped bool
	stop    chan struct{}
	clock   sync.WaitGroup
}

// StartMiniRedis starts one on a port of the loopback interface.
func StartMiniRedis(port int) (*MiniRedis, error) {
	m := &MiniRedis{redis: miniredis.NewMiniRedis(), address: fmt.Sprintf("127.0.0.1:%d", port), stopped: true, stop: make(chan struct{})}
	if err := m.Start(); err != nil {
		return nil, err
	}
	// Keys expire only as its own clock is moved.
	m.clock.Go(func() {
		ticker := time.NewTicker(tick)
		defer ticker.Stop()
		last := time.Now()
		for {
			select {
			case <-m.stop:
				return
			case now := <-ticker.C:
				m.redis.FastForward(now.Sub(last))
				last = now
			}
		}
	})
	return m, nil
}

// Start has it listen again, with what it had, after Stop. Stop, Start and Close
// must not be called at the same time.
func (m *MiniRedis) Start() error {
	if !m.stopped {
		return nil
	}
	if err := m.redis.StartAddr(m.address); err != nil {
		return fmt.Errorf("start miniredis: %w", err)
	}
	m.stopped = false
	return nil
}

// Stop cuts every connection and takes no new one until Start.
func (m *MiniRedis) Stop() {
	if !m.stopped {
		m.redis.Close()
		m.stopped = true
	}
}

// Close stops it for good.
func (m *MiniRedis) Close() {
	close(m.stop)
	m.clock.Wait()
	m.Stop()
}
