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
	redis *miniredis.Miniredis
	stop  chan struct{}
	clock sync.WaitGroup
}

// StartMiniRedis starts one on a port of the loopback interface.
func StartMiniRedis(port int) (*MiniRedis, error) {
	m := &MiniRedis{redis: miniredis.NewMiniRedis(), stop: make(chan struct{})}
	if err := m.redis.StartAddr(fmt.Sprintf("127.0.0.1:%d", port)); err != nil {
		return nil, fmt.Errorf("start miniredis: %w", err)
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

// Close stops it.
func (m *MiniRedis) Close() {
	close(m.stop)
	m.clock.Wait()
	m.redis.Close()
}
