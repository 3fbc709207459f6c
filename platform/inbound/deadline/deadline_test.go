package deadline

import (
	"testing"
	"time"

	"go.uber.org/goleak"

	"spillway.dev/platform/problem"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestDecide(t *testing.T) {
	c := Config{Default: 5 * time.Second, Minimum: 10 * time.Millisecond}
	for name, d := range map[string]struct {
		left    time.Duration
		bounded bool
		timeout time.Duration
		refused bool
	}{
		"no deadline":  {0, false, 5 * time.Second, false},
		"plenty":       {time.Minute, true, 0, false},
		"just enough":  {10 * time.Millisecond, true, 0, false},
		"too little":   {10*time.Millisecond - 1, true, 0, true},
		"over already": {-time.Second, true, 0, true},
		"none left":    {0, true, 0, true},
		"a nanosecond": {1, true, 0, true},
	} {
		timeout, err := c.decide(d.left, d.bounded)
		if timeout != d.timeout || (err != nil) != d.refused || err != nil && problem.Reason(err) != problem.DeadlineTooShort {
			t.Errorf("%s: timeout %v, error %v", name, timeout, err)
		}
	}
	if _, err := (Config{Default: 1}).decide(0, true); err == nil {
		t.Error("with no minimum, a call without any time left goes on")
	}
}

func TestNothingIsRefusedWhereThatIsSaid(t *testing.T) {
	refuse := false
	c := Config{Default: 5 * time.Second, Minimum: 10 * time.Millisecond, Refuse: func() bool { return refuse }}
	for _, left := range []time.Duration{-time.Second, 0, 1, 9 * time.Millisecond, time.Minute} {
		if timeout, err := c.decide(left, true); timeout != 0 || err != nil {
			t.Errorf("with %v left: timeout %v, error %v", left, timeout, err)
		}
	}
	if timeout, err := c.decide(0, false); timeout != c.Default || err != nil {
		t.Errorf("without a deadline: timeout %v, error %v", timeout, err)
	}
	refuse = true
	if _, err := c.decide(time.Millisecond, true); problem.Reason(err) != problem.DeadlineTooShort {
		t.Errorf("switched on, 1ms gives %v", err)
	}
}
