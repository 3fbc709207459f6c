// Package port hands out free TCP ports of the loopback interface. They lie
// below the range that the system takes for outgoing connections, so that a port
// stays free while its container is started again. Engines beside each other
// work in different blocks of ports: a block is claimed by a UDP socket on its
// first port, held for as long as the engine lives.
package port

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"strconv"
	"strings"
	"sync"
)

const (
	lowest    = 10000
	blockSize = 256
)

// Allocator hands out ports. Safe for concurrent use.
type Allocator struct {
	top int // first port that is not ours to give

	mu     sync.Mutex
	guards []net.PacketConn
	free   []int // ones that were given back longest ago come first
}

// NewAllocator returns an allocator that has claimed nothing yet.
func NewAllocator() *Allocator { return &Allocator{top: ephemeral()} }

// Get returns a port on which nothing listens.
func (a *Allocator) Get() (int, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for {
		for range len(a.free) {
			port := a.free[0]
			a.free = a.free[1:]
			if Free(port) {
				return port, nil
			}
			a.free = append(a.free, port)
		}
		if err := a.claim(); err != nil {
			return 0, err
		}
	}
}

// Put gives a port back.
func (a *Allocator) Put(port int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.free = append(a.free, port)
}

// Close gives up every claim.
func (a *Allocator) Close() error {
	a.mu.Lock()
	defer a.mu.Unlock()
	var errs []error
	for _, guard := range a.guards {
		errs = append(errs, guard.Close())
	}
	a.guards, a.free = nil, nil
	return errors.Join(errs...)
}

func (a *Allocator) claim() error {
	for _, block := range rand.Perm((a.top - lowest) / blockSize) {
		first := lowest + block*blockSize
		guard, err := net.ListenPacket("udp4", fmt.Sprintf("127.0.0.1:%d", first))
		if err != nil {
			continue
		}
		a.guards = append(a.guards, guard)
		for port := first + 1; port < first+blockSize; port++ {
			a.free = append(a.free, port)
		}
		return nil
	}
	return fmt.Errorf("no block of %d ports between %d and %d is free: stop a mesh that is not needed", blockSize, lowest, a.top)
}

// Free tells whether a port of the loopback interface can be listened on.
func Free(port int) bool {
	lis, err := net.Listen("tcp4", fmt.Sprintf("127.0.0.1:%d", port))
	if err != nil {
		return false
	}
	lis.Close()
	return true
}

// ephemeral is the first port that the system takes for outgoing connections.
func ephemeral() int {
	text, err := os.ReadFile("/proc/sys/net/ipv4/ip_local_port_range")
	if fields := strings.Fields(string(text)); err == nil && len(fields) == 2 {
		if first, err := strconv.Atoi(fields[0]); err == nil && first >= lowest+8*blockSize {
			return first
		}
	}
	return 32768 // Linux's default, and below the ranges of the others
}
