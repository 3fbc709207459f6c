package lifecycle

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestWhenEachStepsTimeIsUp(t *testing.T) {
	const s = time.Second
	for name, test := range map[string]struct {
		timeout  time.Duration
		reserves []time.Duration
		want     []time.Duration
	}{
		"no steps":                          {10 * s, nil, []time.Duration{}},
		"no reserves: all have all":         {10 * s, []time.Duration{0, 0, 0}, []time.Duration{10 * s, 10 * s, 10 * s}},
		"reserves are kept for the later":   {10 * s, []time.Duration{0, 2 * s, s}, []time.Duration{7 * s, 9 * s, 10 * s}},
		"the first's own is part of it":     {10 * s, []time.Duration{4 * s, s}, []time.Duration{9 * s, 10 * s}},
		"reserves take no more than half":   {4 * s, []time.Duration{0, 6 * s, 2 * s}, []time.Duration{2 * s, 3500 * time.Millisecond, 4 * s}},
		"also when the timeout is tiny":     {2 * time.Millisecond, []time.Duration{0, s}, []time.Duration{time.Millisecond, 2 * time.Millisecond}},
		"exactly half is not made shorter":  {4 * s, []time.Duration{0, s, s}, []time.Duration{2 * s, 3 * s, 4 * s}},
		"a timeout of nothing cuts at once": {0, []time.Duration{0, s}, []time.Duration{0, 0}},
	} {
		t.Run(name, func(t *testing.T) {
			var steps []Step
			for _, r := range test.reserves {
				steps = append(steps, Step{Reserve: r})
			}
			if got := ends(test.timeout, steps); !slices.Equal(got, test.want) {
				t.Errorf("got %v, want %v", got, test.want)
			}
		})
	}
}

// drill runs a drain in virtual time and gives the results and the log.
func drill(t *testing.T, d Drain) (results []Result, log []map[string]any) {
	t.Helper()
	synctest.Test(t, func(*testing.T) {
		var out bytes.Buffer
		results = d.Run(slog.New(slog.NewJSONHandler(&out, nil)))
		for line := range strings.Lines(out.String()) {
			fields := map[string]any{}
			if err := json.Unmarshal([]byte(line), &fields); err != nil {
				t.Fatal(err)
			}
			log = append(log, fields)
		}
		time.Sleep(time.Hour) // for what was left behind
	})
	return results, log
}

// takes is a step that takes a time, or less when it is cut.
func takes(name string, d, reserve time.Duration) Step {
	return Step{Name: name, Reserve: reserve, Run: func(ctx context.Context) error {
		select {
		case <-time.After(d):
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}}
}

// deaf is a step that takes a time whatever its context says.
func deaf(name string, d time.Duration) Step {
	return Step{Name: name, Run: func(context.Context) error {
		time.Sleep(d)
		return nil
	}}
}

func TestDrain(t *testing.T) {
	const s = time.Second
	broken := errors.New("broken")
	for name, test := range map[string]struct {
		drain Drain
		took  []time.Duration // by step, announce and delay included
		cut   []string
		err   string
	}{
		"all in time": {
			Drain{Timeout: 10 * s, Steps: []Step{takes("a", s, 0), takes("b", 2*s, s)}},
			[]time.Duration{0, s, 2 * s}, nil, "",
		},
		"the delay does not count": {
			Drain{Delay: 30 * s, Timeout: 10 * s, Steps: []Step{takes("a", 9*s, 0)}},
			[]time.Duration{0, 30 * s, 9 * s}, nil, "",
		},
		"a step that is too long leaves the reserves": {
			Drain{Timeout: 10 * s, Steps: []Step{takes("a", time.Hour, 0), takes("b", s, 2*s), takes("c", s, s)}},
			[]time.Duration{0, 7 * s, s, s}, []string{"a"}, `drain step "a" was cut by the deadline after 7s: context deadline exceeded`,
		},
		"what one does not need the next may use": {
			Drain{Timeout: 10 * s, Steps: []Step{takes("a", s, 0), takes("b", 7*s, s), takes("c", s, s)}},
			[]time.Duration{0, s, 7 * s, s}, nil, "",
		},
		"one that does not listen is left behind": {
			Drain{Timeout: 10 * s, Steps: []Step{deaf("a", time.Minute), takes("b", s, 4*s)}},
			[]time.Duration{0, 6*s + cutGrace, s}, []string{"a"}, `drain step "a" was cut by the deadline after 6.1s: it did not return and was left behind`,
		},
		"late, but done all the same": {
			Drain{Timeout: 10 * s, Steps: []Step{deaf("a", 10*s+cutGrace/2)}},
			[]time.Duration{0, 10*s + cutGrace/2}, nil, "",
		},
		"nothing is left for the last": {
			Drain{Timeout: s, Steps: []Step{takes("a", time.Minute, 0), takes("b", time.Minute, 0)}},
			[]time.Duration{0, s, 0}, []string{"a", "b"}, `drain step "a" was cut by the deadline after 1s: context deadline exceeded` + "\n" +
				`drain step "b" was cut by the deadline after 0s: context deadline exceeded`,
		},
		"a failure stops nothing": {
			Drain{Timeout: 10 * s, Steps: []Step{{Name: "a", Run: func(context.Context) error { return broken }}, takes("b", s, 0)}},
			[]time.Duration{0, 0, s}, nil, `drain step "a": broken`,
		},
	} {
		t.Run(name, func(t *testing.T) {
			announced := 0
			test.drain.Announce = Step{Name: "readiness", Run: func(context.Context) error { announced++; return nil }}
			results, log := drill(t, test.drain)

			want := []string{"readiness"}
			if test.drain.Delay > 0 {
				want = append(want, "delay")
			}
			for _, step := range test.drain.Steps {
				want = append(want, step.Name)
			}
			var names, logged []string
			var took []time.Duration
			for _, r := range results {
				names = append(names, r.Name)
				took = append(took, r.Took)
			}
			for _, line := range log[:len(log)-1] {
				logged = append(logged, line["step"].(string))
			}
			if announced != 1 || !slices.Equal(names, want) || !slices.Equal(logged, want) {
				t.Errorf("announced %d times; steps %v, logged %v; want %v", announced, names, logged, want)
			}
			if !slices.Equal(took, test.took) {
				t.Errorf("took %v, want %v", took, test.took)
			}
			if got := Cut(results); !slices.Equal(got, test.cut) {
				t.Errorf("cut %v, want %v", got, test.cut)
			}
			if err := Err(results); (err == nil) != (test.err == "") || err != nil && err.Error() != test.err {
				t.Errorf("error is %v, want %s", err, test.err)
			}
			last := log[len(log)-1]
			if named, _ := last["cut"].(string); named != strings.Join(test.cut, ", ") {
				t.Errorf("the last line names %q", named)
			}
		})
	}
}
