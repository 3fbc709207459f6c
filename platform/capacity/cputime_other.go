//go:build !linux

package capacity

import (
	"syscall"
	"time"
)

// threadCPU is wall time: this system does not tell the CPU time of one thread by a call that Go knows.
func threadCPU() time.Duration { return time.Since(clockStart) }

var clockStart = time.Now()

// processCPU is the CPU time of this process.
func processCPU() time.Duration {
	var used syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &used); err != nil {
		return 0
	}
	return time.Duration(used.Utime.Nano() + used.Stime.Nano())
}
