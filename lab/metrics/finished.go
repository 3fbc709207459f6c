package metrics

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/prometheus/prometheus/model/timestamp"
	"github.com/prometheus/prometheus/tsdb"
)

// Finished is what a run left behind, for queries only. Its methods are safe for
// concurrent use, but for Close.
type Finished struct {
	series
	db      *tsdb.DB
	scratch string
}

// OpenFinished reads the series of a run that has ended, well or not: what was
// written when it was killed is there, but for what was under way. The
// directory is not changed, for a copy is opened; a run that still goes on may
// be read too, and shows what it had written by then.
func OpenFinished(dir string) (_ *Finished, err error) {
	if _, err := os.Stat(filepath.Join(dir, "wal")); err != nil {
		return nil, fmt.Errorf("metrics: %s holds no series: %w", dir, err)
	}
	scratch, err := os.MkdirTemp("", "spillway-series-")
	if err != nil {
		return nil, fmt.Errorf("metrics: %w", err)
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.RemoveAll(scratch))
		}
	}()
	if err := copyTree(scratch, dir); err != nil {
		return nil, fmt.Errorf("metrics: copy the series of %s: %w", dir, err)
	}
	cfg := Config{Dir: scratch}.withDefaults()
	options := tsdbOptions()
	options.RetentionDuration = 0 // a run is not too old to be read
	// A record that the end of the process tore is cut off here.
	db, err := tsdb.Open(scratch, cfg.Log, nil, options, nil)
	if err != nil {
		return nil, fmt.Errorf("metrics: open the series of %s: %w", dir, err)
	}
	db.DisableCompactions()
	return &Finished{series: series{engine: newEngine(cfg, newParser()), data: db}, db: db, scratch: scratch}, nil
}

// Span is the times of the first and the last sample; both are zero when there
// is none.
func (f *Finished) Span() (first, last time.Time) {
	low, high := f.db.Head().MinTime(), f.db.Head().MaxTime()
	blocks := f.db.Blocks()
	if f.db.Head().NumSeries() == 0 && len(blocks) == 0 {
		return time.Time{}, time.Time{}
	}
	for _, b := range blocks {
		low, high = min(low, b.MinTime()), max(high, b.MaxTime()-1)
	}
	return timestamp.Time(low), timestamp.Time(high)
}

// Close lets go of the copy. No query may be under way.
func (f *Finished) Close() error {
	return errors.Join(f.db.Close(), os.RemoveAll(f.scratch))
}

// copyTree copies the files of a TSDB. What vanishes meanwhile was of no more
// use to its owner.
func copyTree(to, from string) error {
	return filepath.WalkDir(from, func(path string, entry fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil {
			return err
		}
		name, err := filepath.Rel(from, path)
		if err != nil {
			return err
		}
		target := filepath.Join(to, name)
		switch {
		case entry.IsDir():
			return os.MkdirAll(target, 0o700)
		case entry.Type().IsRegular() && name != "lock":
			if err := copyFile(target, path); !errors.Is(err, fs.ErrNotExist) {
				return err
			}
		}
		return nil
	})
}

func copyFile(to, from string) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.OpenFile(to, os.O_CREATE|os.O_WRONLY|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = io.Copy(out, in)
	return errors.Join(err, out.Close())
}
