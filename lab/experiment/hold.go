package experiment

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// lockFile is held by whoever runs an experiment into a directory.
const lockFile = ".lock"

// hold keeps other runs out of dir until release is called: each would take the
// other's mesh away. The lock ends with the process, however that ends.
func hold(dir string) (release func(), err error) {
	path := filepath.Join(dir, lockFile)
	file, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return nil, fmt.Errorf("keep other runs out of %s: %w", dir, err)
	}
	if err := unix.Flock(int(file.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		file.Close()
		if errors.Is(err, unix.EWOULDBLOCK) {
			return nil, fmt.Errorf("another run writes to %s: wait for it, or give this one a directory of its own with --out", dir)
		}
		return nil, fmt.Errorf("lock %s: %w", path, err)
	}
	return func() { file.Close() }, nil // the file stays: who takes it away could let two in
}
