// Package filelock keeps a directory to one process at a time, by an exclusive
// flock(2) on a file in it. The lock ends with the process, however that ends; the
// file stays, for who takes it away could let two in.
package filelock

import (
	"errors"
	"fmt"
	"os"
	"syscall"
)

// ErrHeld is in the chain of Take's error when another process has the lock.
var ErrHeld = errors.New("another process holds it")

// Take locks the file at path, which it makes when it is not there, without
// waiting. Closing the file gives the lock back.
func Take(path string) (*os.File, error) {
	lock, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		lock.Close()
		if errors.Is(err, syscall.EWOULDBLOCK) {
			err = ErrHeld
		}
		return nil, fmt.Errorf("lock %s: %w", path, err)
	}
	return lock, nil
}
