package experiment

import (
	"errors"
	"fmt"
	"path/filepath"

	"spillway.dev/platform/filelock"
)

// lockFile is held by whoever runs an experiment into a directory.
const lockFile = ".lock"

// hold keeps other runs out of dir until release is called: each would take the
// other's mesh away.
func hold(dir string) (release func(), err error) {
	lock, err := filelock.Take(filepath.Join(dir, lockFile))
	if errors.Is(err, filelock.ErrHeld) {
		return nil, fmt.Errorf("another run writes to %s: wait for it, or give this one a directory of its own with --out", dir)
	}
	if err != nil {
		return nil, fmt.Errorf("keep other runs out of %s: %w", dir, err)
	}
	return func() { lock.Close() }, nil
}
