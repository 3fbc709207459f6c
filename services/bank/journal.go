package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"sync"

	"google.golang.org/protobuf/encoding/protojson"

	"spillway.dev/platform/filelock"
	bankv1 "spillway.dev/proto/gen/spillway/bank/v1"
)

// journalName and lockName are the files in the journal's directory.
const (
	journalName = "journal.jsonl"
	lockName    = "lock"
)

// journal is an append-only file of transactions, one JSON object a line. What
// is durable is what was synced to disk; lines that are waiting while a sync is
// under way share the next one (group commit). Safe for concurrent use.
type journal struct {
	lock *os.File
	file *os.File

	mu      sync.Mutex
	buf     []byte  // lines not yet handed to the file
	pending *commit // the sync that will make buf durable
	failed  error   // once set, nothing is written any more
	closed  bool

	kick chan struct{} // there is something in buf; capacity 1
	done chan struct{} // the writer has ended
}

// commit is one sync. err may be read once done is closed.
type commit struct {
	done chan struct{}
	err  error
}

// wait returns once the commit is on disk. With an error from ctx the outcome
// is unknown. A nil commit was on disk before this process started.
func (c *commit) wait(ctx context.Context) error {
	if c == nil {
		return nil
	}
	select {
	case <-c.done:
		return c.err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// openJournal locks dir (made when missing), replays its journal in order and
// opens it for writing. The lock is the kernel's: it ends with the process,
// however that ends. A last line without its end was never acknowledged: it is
// cut off, with a line in the log. Any other line that cannot be read is an
// error, since the books after it cannot be trusted.
func openJournal(dir string, log *slog.Logger, replay func(*bankv1.Transaction)) (_ *journal, err error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("bank journal: make directory: %w", err)
	}
	lock, err := lockDir(dir)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			lock.Close()
		}
	}()
	path := filepath.Join(dir, journalName)
	file, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("bank journal: %w", err)
	}
	defer func() {
		if err != nil {
			file.Close()
		}
	}()
	if err := syncDir(dir); err != nil { // the file's name must survive a power loss too
		return nil, err
	}
	good, torn, err := read(file, replay)
	if err != nil {
		return nil, fmt.Errorf("bank journal: %s: %w", path, err)
	}
	if torn > 0 {
		log.Warn("bank journal: last line is torn and was never acknowledged; cut off", "path", path, "offset", good, "bytes", torn)
		if err := errors.Join(file.Truncate(good), file.Sync()); err != nil {
			return nil, fmt.Errorf("bank journal: cut off torn line: %w", err)
		}
	}
	if _, err := file.Seek(good, io.SeekStart); err != nil {
		return nil, fmt.Errorf("bank journal: %w", err)
	}
	j := &journal{lock: lock, file: file, kick: make(chan struct{}, 1), done: make(chan struct{})}
	go j.write()
	return j, nil
}

func lockDir(dir string) (*os.File, error) {
	lock, err := filelock.Take(filepath.Join(dir, lockName))
	if errors.Is(err, filelock.ErrHeld) {
		return nil, fmt.Errorf("bank journal: %s is in use by another bank; stop it or set SPILLWAY_BANK_JOURNAL_DIR to a directory of its own", dir)
	}
	if err != nil {
		return nil, fmt.Errorf("bank journal: %w", err)
	}
	return lock, nil
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return fmt.Errorf("bank journal: %w", err)
	}
	if err := errors.Join(d.Sync(), d.Close()); err != nil {
		return fmt.Errorf("bank journal: sync directory: %w", err)
	}
	return nil
}

// read replays complete lines. good is the offset after the last of them, torn
// how many bytes of an unfinished line follow.
func read(r io.Reader, replay func(*bankv1.Transaction)) (good, torn int64, err error) {
	in := bufio.NewReader(r)
	for n := 1; ; n++ {
		line, err := in.ReadBytes('\n')
		switch {
		case errors.Is(err, io.EOF):
			return good, int64(len(line)), nil
		case err != nil:
			return 0, 0, err
		}
		txn := &bankv1.Transaction{}
		if err := protojson.Unmarshal(bytes.TrimSpace(line), txn); err != nil {
			return 0, 0, fmt.Errorf("line %d (offset %d) is damaged: %w; restore the file from a copy", n, good, err)
		}
		if txn.GetReference() == "" {
			return 0, 0, fmt.Errorf("line %d (offset %d) names no reference; restore the file from a copy", n, good)
		}
		replay(txn)
		good += int64(len(line))
	}
}

// append queues a line and returns the commit that will make it durable. Lines
// reach the file in the order of the calls.
func (j *journal) append(txn *bankv1.Transaction) *commit {
	line, err := protojson.Marshal(txn)
	j.mu.Lock()
	defer j.mu.Unlock()
	if err = errors.Join(err, j.failed); err != nil || j.closed {
		if err == nil {
			err = os.ErrClosed
		}
		c := &commit{done: make(chan struct{}), err: err}
		close(c.done)
		return c
	}
	if j.pending == nil {
		j.pending = &commit{done: make(chan struct{})}
	}
	j.buf = append(append(j.buf, line...), '\n')
	select {
	case j.kick <- struct{}{}:
	default:
	}
	return j.pending
}

func (j *journal) write() {
	defer close(j.done)
	for range j.kick {
		j.mu.Lock()
		buf, c, err := j.buf, j.pending, j.failed
		j.buf, j.pending = nil, nil
		j.mu.Unlock()
		if c == nil {
			continue
		}
		if err == nil {
			if _, err = j.file.Write(buf); err == nil {
				err = j.file.Sync()
			}
		}
		if err != nil {
			// After a failed sync the kernel may have dropped the dirty pages, so
			// a second one that succeeds proves nothing: only a restart, which
			// reads the file again, may go on.
			err = fmt.Errorf("bank journal: %w", err)
			j.mu.Lock()
			j.failed = err
			j.mu.Unlock()
		}
		c.err = err
		close(c.done)
	}
}

// close makes what was appended durable, then gives the directory free.
func (j *journal) close() error {
	j.mu.Lock()
	closed := j.closed
	j.closed = true
	j.mu.Unlock()
	if closed {
		return nil
	}
	close(j.kick) // append does not send any more: closed is set; what it sent before is still received
	<-j.done
	j.mu.Lock()
	failed := j.failed
	j.mu.Unlock()
	return errors.Join(failed, j.file.Close(), j.lock.Close())
}
