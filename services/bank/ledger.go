package main

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"google.golang.org/grpc/codes"

	bankv1 "spillway.dev/proto/gen/spillway/bank/v1"

	"spillway.dev/platform/problem"
)

// ledger is the books in memory on top of the journal. Nothing that it answers
// can be lost: every answer, also one from memory, waits for the commit that
// made its entry durable. Entries are never changed, only replaced. Safe for
// concurrent use.
type ledger struct {
	journal *journal
	now     func() time.Time

	mu      sync.Mutex
	entries map[string]entry
	order   []string // references, in the order they were first seen
	latest  *commit
}

type entry struct {
	txn    *bankv1.Transaction
	commit *commit
}

// openLedger reads the books from the journal in dir.
func openLedger(dir string, log *slog.Logger, now func() time.Time) (*ledger, error) {
	l := &ledger{now: now, entries: map[string]entry{}}
	j, err := openJournal(dir, log, func(txn *bankv1.Transaction) { l.put(entry{txn: txn}) })
	if err != nil {
		return nil, err
	}
	l.journal = j
	log.Info("bank books read", "references", len(l.order))
	return l, nil
}

func (l *ledger) put(e entry) {
	ref := e.txn.GetReference()
	if _, seen := l.entries[ref]; !seen {
		l.order = append(l.order, ref)
	}
	l.entries[ref] = e
}

// change replaces the entry of a reference by what decide makes of it and
// returns the entry that holds then, once it is durable.
func (l *ledger) change(ctx context.Context, ref string, decide func(old *bankv1.Transaction) *bankv1.Transaction) (*bankv1.Transaction, error) {
	l.mu.Lock()
	e := l.entries[ref]
	if txn := decide(e.txn); txn != e.txn {
		e = entry{txn: txn, commit: l.journal.append(txn)}
		l.put(e)
		l.latest = e.commit
	}
	l.mu.Unlock()
	return e.txn, durable(ctx, e.commit)
}

// charge takes money under a reference, once.
func (l *ledger) charge(ctx context.Context, req *bankv1.ChargeRequest) (*bankv1.Transaction, error) {
	txn, err := l.change(ctx, req.GetReference(), func(old *bankv1.Transaction) *bankv1.Transaction {
		return chargeEntry(old, req, l.now())
	})
	if err != nil {
		return nil, err
	}
	if err := chargeAnswer(txn, req); err != nil {
		return nil, err
	}
	return txn, nil
}

// refund gives money back, or voids the reference.
func (l *ledger) refund(ctx context.Context, req *bankv1.RefundRequest) (*bankv1.Transaction, error) {
	return l.change(ctx, req.GetReference(), func(old *bankv1.Transaction) *bankv1.Transaction {
		return refundEntry(old, req.GetReference(), l.now())
	})
}

// all is the books at one instant, all of it durable.
func (l *ledger) all(ctx context.Context) ([]*bankv1.Transaction, error) {
	l.mu.Lock()
	txns := make([]*bankv1.Transaction, len(l.order))
	for i, ref := range l.order {
		txns[i] = l.entries[ref].txn
	}
	latest := l.latest // commits come to disk in order
	l.mu.Unlock()
	return txns, durable(ctx, latest)
}

func durable(ctx context.Context, c *commit) error {
	err := c.wait(ctx)
	if err == nil || ctx.Err() != nil && err == ctx.Err() {
		return err
	}
	return problem.New(codes.Unavailable, reasonJournalFailed,
		"the bank's journal cannot be written; see the bank's log, repair the disk and restart it")
}

func (l *ledger) close() error { return l.journal.close() }
