package main

import (
	"bytes"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"spillway.dev/platform/problem"
	bankv1 "spillway.dev/proto/gen/spillway/bank/v1"
)

func open(t *testing.T, dir string) (*ledger, *bytes.Buffer) {
	t.Helper()
	log := &bytes.Buffer{}
	l, err := openLedger(dir, slog.New(slog.NewTextHandler(log, nil)), time.Now)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.close() })
	return l, log
}

func charge(ref string, amount int64) *bankv1.ChargeRequest {
	return &bankv1.ChargeRequest{Reference: ref, AmountCents: amount, CardToken: "tok_visa"}
}

func TestBooksSurviveRestart(t *testing.T) {
	dir := t.TempDir()
	l, _ := open(t, dir)
	for _, ref := range []string{"ref-0001", "ref-0002"} {
		if _, err := l.charge(t.Context(), charge(ref, 700)); err != nil {
			t.Fatal(err)
		}
	}
	for _, ref := range []string{"ref-0002", "ref-0003"} {
		if _, err := l.refund(t.Context(), &bankv1.RefundRequest{Reference: ref}); err != nil {
			t.Fatal(err)
		}
	}
	if err := l.close(); err != nil {
		t.Fatal(err)
	}
	l, _ = open(t, dir)
	txns, err := l.all(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, x := range txns {
		got = append(got, fmt.Sprint(x.GetReference(), x.GetAmountCents(), x.GetState().Number(), x.GetCaptures()))
	}
	if want := "ref-0001700 1 1 ref-0002700 3 1 ref-00030 4 0"; strings.Join(got, " ") != want {
		t.Errorf("books after restart: %q, want %q", strings.Join(got, " "), want)
	}
	if _, err := l.charge(t.Context(), charge("ref-0003", 700)); problem.Reason(err) != reasonReferenceVoided {
		t.Errorf("late charge of a voided reference: %v", err)
	}
}

// Wherever a crash cuts the last line off, what stands before it is read and
// new lines follow it.
func TestTornLastLine(t *testing.T) {
	dir := t.TempDir()
	l, _ := open(t, dir)
	if _, err := l.charge(t.Context(), charge("ref-0001", 700)); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, journalName)
	first, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := l.charge(t.Context(), charge("ref-0002", 700)); err != nil {
		t.Fatal(err)
	}
	l.close()
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for cut := len(first) + 1; cut < len(whole); cut += 7 {
		if err := os.WriteFile(path, whole[:cut], 0o600); err != nil {
			t.Fatal(err)
		}
		l, log := open(t, dir)
		if !strings.Contains(log.String(), "torn") {
			t.Errorf("cut at %d: no word of it in the log", cut)
		}
		if _, err := l.charge(t.Context(), charge("ref-0003", 900)); err != nil {
			t.Fatal(err)
		}
		l.close()
		l, log = open(t, dir)
		if strings.Contains(log.String(), "torn") {
			t.Errorf("cut at %d: torn again after it was cut off", cut)
		}
		txns, err := l.all(t.Context())
		if err != nil || len(txns) != 2 || txns[0].GetReference() != "ref-0001" || txns[1].GetReference() != "ref-0003" {
			t.Errorf("cut at %d: books %v, %v", cut, txns, err)
		}
		l.close()
	}
}

func TestDamagedLineRefusesToStart(t *testing.T) {
	dir := t.TempDir()
	text := `{"reference":"ref-0001","state":"TRANSACTION_STATE_CAPTURED"}` + "\nnot json\n" + `{"reference":"ref-0002"}` + "\n"
	if err := os.WriteFile(filepath.Join(dir, journalName), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	_, err := openLedger(dir, slog.New(slog.DiscardHandler), time.Now)
	if err == nil || !strings.Contains(err.Error(), "line 2") {
		t.Fatalf("error %v, want one that names line 2", err)
	}
	// The refused start gave the directory free.
	if err := os.Remove(filepath.Join(dir, journalName)); err != nil {
		t.Fatal(err)
	}
	open(t, dir)
}

func TestDirectoryIsLocked(t *testing.T) {
	dir := t.TempDir()
	l, _ := open(t, dir)
	if _, err := openLedger(dir, slog.New(slog.DiscardHandler), time.Now); err == nil || !strings.Contains(err.Error(), "in use") {
		t.Fatalf("second bank in one directory: %v, want a refusal", err)
	}
	l.close()
	open(t, dir)
}

// A failed disk must not be answered as success, neither then nor later from
// memory.
func TestFailedWriteIsNotAcknowledged(t *testing.T) {
	l, _ := open(t, t.TempDir())
	if _, err := l.charge(t.Context(), charge("ref-0001", 700)); err != nil {
		t.Fatal(err)
	}
	l.journal.file.Close() // the disk is gone
	for range 2 {
		if _, err := l.charge(t.Context(), charge("ref-0002", 700)); problem.Reason(err) != reasonJournalFailed {
			t.Errorf("charge without a disk: %v", err)
		}
	}
	if _, err := l.all(t.Context()); problem.Reason(err) != reasonJournalFailed {
		t.Errorf("books without a disk: %v", err)
	}
	if _, err := l.charge(t.Context(), charge("ref-0001", 700)); err != nil {
		t.Errorf("replay of what was on disk before: %v", err)
	}
}

// Twenty callers with one reference and twenty with one each: every one is
// charged once and told so.
func TestConcurrentCharges(t *testing.T) {
	dir := t.TempDir()
	l, _ := open(t, dir)
	var wg sync.WaitGroup
	for i := range 20 {
		wg.Go(func() {
			for _, ref := range []string{"ref-same", fmt.Sprintf("ref-%04d", i)} {
				if got, err := l.charge(t.Context(), charge(ref, 700)); err != nil || got.GetCaptures() != 1 {
					t.Errorf("%s: %v, %v", ref, got, err)
				}
			}
		})
	}
	wg.Wait()
	l.close()
	if text, err := os.ReadFile(filepath.Join(dir, journalName)); err != nil || bytes.Count(text, []byte("\n")) != 21 {
		t.Errorf("journal has %d lines, want 21 (%v)", bytes.Count(text, []byte("\n")), err)
	}
}
