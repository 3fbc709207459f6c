package experiment

import (
	"context"
	"errors"
	"io"
	"strings"
	"testing"
	"time"

	"spillway.dev/lab/load"
)

func TestFollow(t *testing.T) {
	lines := `{"begin":"2031-01-02T03:04:05Z"}
{"tick":{"elapsed":1000000000,"offered":7}}
{"tick":{"elapsed":2000000000,"offered":9}}
{"record":{"offered":16,"seconds":[]}}
`
	var begin time.Time
	ticks := 0
	record, err := Follow(strings.NewReader(lines), func(t time.Time) { begin = t }, func(load.Tick) { ticks++ })
	if err != nil || record.Report.Offered != 16 || ticks != 2 || !begin.Equal(time.Date(2031, 1, 2, 3, 4, 5, 0, time.UTC)) {
		t.Errorf("record %+v, %d ticks, begin %v, %v", record, ticks, begin, err)
	}
	// A generator that dies has told nothing that could be reported.
	cut, _, _ := strings.Cut(lines, `{"record"`)
	if record, err := Follow(strings.NewReader(cut), func(time.Time) {}, func(load.Tick) {}); record != nil || !errors.Is(err, io.EOF) {
		t.Errorf("cut short: %+v, %v", record, err)
	}
}

func TestGeneratorThatFails(t *testing.T) {
	_, err := generate(t.Context(), t.Context(), []string{"/bin/sh", "-c", "echo no mesh >&2; exit 1"}, load.Default(), func(time.Time) {}, func(load.Tick) {})
	if err == nil || !strings.Contains(err.Error(), "no mesh") {
		t.Errorf("%v; it should say what the process said", err)
	}
}

// One that does not end when it is told to is killed when nobody wants its record
// any more.
func TestGeneratorIsGivenUp(t *testing.T) {
	ctx, stop := context.WithCancel(t.Context())
	hard, giveUp := context.WithCancel(t.Context())
	defer giveUp()
	deaf := []string{"/bin/sh", "-c", `trap : TERM; echo '{"begin":"2031-01-02T03:04:05Z"}'; while :; do read -r _ || sleep 0.01; done`}
	begun := func(time.Time) { stop(); giveUp() }
	if record, err := generate(ctx, hard, deaf, load.Default(), begun, func(load.Tick) {}); record != nil || err == nil {
		t.Errorf("%+v, %v", record, err)
	}
}
