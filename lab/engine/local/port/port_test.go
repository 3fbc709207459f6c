package port

import (
	"net"
	"strconv"
	"testing"
)

func TestAllocatorsDoNotMeet(t *testing.T) {
	a, b := NewAllocator(), NewAllocator()
	t.Cleanup(func() { a.Close(); b.Close() })
	seen := map[int]bool{}
	for range 200 {
		for _, allocator := range []*Allocator{a, b} {
			port, err := allocator.Get()
			if err != nil {
				t.Fatal(err)
			}
			if seen[port] || port < lowest || port >= ephemeral() {
				t.Fatalf("port %d: given before (%v), or out of range", port, seen[port])
			}
			seen[port] = true
		}
	}
}

func TestAllocatorGoesOnBeyondABlock(t *testing.T) {
	a := NewAllocator()
	t.Cleanup(func() { a.Close() })
	seen := map[int]bool{}
	for range blockSize + 50 {
		port, err := a.Get()
		if err != nil {
			t.Fatal(err)
		}
		seen[port] = true
	}
	if len(seen) != blockSize+50 {
		t.Errorf("%d different ports of %d", len(seen), blockSize+50)
	}
}

func TestPortInUseIsPassedOver(t *testing.T) {
	a := NewAllocator()
	t.Cleanup(func() { a.Close() })
	first, err := a.Get()
	if err != nil {
		t.Fatal(err)
	}
	lis, err := net.Listen("tcp4", "127.0.0.1:"+strconv.Itoa(first))
	if err != nil {
		t.Fatal(err)
	}
	defer lis.Close()
	a.Put(first)
	for range blockSize {
		port, err := a.Get()
		if err != nil {
			t.Fatal(err)
		}
		if port == first {
			t.Fatalf("port %d was given out while someone listens on it", first)
		}
	}
}
