package measure

import (
	"slices"
	"testing"
)

// honest is a recording that nothing speaks against.
func honest() *Recording {
	return &Recording{
		Warmup: 10, Duration: 110,
		Load:    []Load{{T: 10, Dur: 1, Counts: Counts{Offered: 1}}},
		LagP99:  5,
		HostCPU: steps(0, 0.9),
		Services: []Service{
			{Name: "order", LatenessP50: 2.5, ServiceTime: 50},
			{Name: "gateway", LatenessP50: 99}, // models nothing
		},
	}
}

func TestHonest(t *testing.T) {
	for name, c := range map[string]struct {
		change func(r *Recording)
		want   []string
	}{
		"at every limit": {change: func(*Recording) {}},
		"generator late": {
			func(r *Recording) { r.LagP99 = 5.1 },
			[]string{"the generator was late: the 99th percentile of its lag is 5.1 ms, more than 5 ms"},
		},
		"generator kept waiting by the hypervisor": {
			// What it took in the warm-up is not of the measured time.
			func(r *Recording) { r.LagP99, r.HostStolen = 8, steps(0, 0.9, 10, 0.02, 60, 0.29) },
			[]string{"the generator was late: the 99th percentile of its lag is 8.0 ms, more than 5 ms; the hypervisor kept this machine waiting for up to 29 % of its CPU"},
		},
		"CPU kept away that nobody missed": {change: func(r *Recording) { r.HostStolen = steps(0, 0.29) }},
		"replicas late": {
			func(r *Recording) { r.Services[0].LatenessP50 = 2.6 },
			[]string{"half of the calls at order were answered 2.6 ms or more later than modelled, more than 5 % of the service time of 50 ms"},
		},
		"host busy": {
			// 50 s at 100 %, 50 s at 82 %: 91 %. The warm-up does not count.
			func(r *Recording) { r.HostCPU = steps(0, 0, 10, 1, 60, 0.82) },
			[]string{"the host was busy: 91 % of its CPU on average, more than 90 %"},
		},
		"host busy for a while": {change: func(r *Recording) { r.HostCPU = steps(0, 1, 20, 0.5) }},
		"nothing recorded": {
			func(r *Recording) { *r = Recording{} },
			[]string{"no load was recorded", "the host's CPU was not recorded"},
		},
		"cut short": {
			func(r *Recording) { r.CutShort = true }, []string{"the run was cut short"},
		},
		"a gap": {
			// 3 s + 2.5 s of 100 s; the other replica's 5 s are at the limit.
			func(r *Recording) {
				r.Gaps = []Window{{20, 23, "order-1"}, {30, 35, "order-2"}, {90, 92.5, "order-1"}}
			},
			[]string{"order-1 could not be scraped for 6 s, more than 5 % of the time"},
		},
		"a gap in the warm-up": {change: func(r *Recording) { r.Gaps = []Window{{0, 10, "order-1"}} }},
		"a gap of a fault's making": {
			change: func(r *Recording) {
				r.Gaps = []Window{{19, 52, "order-1"}}
				r.Faults = []Window{{20, 40, "pause order"}, {30, 50, "pause order"}}
			},
		},
	} {
		t.Run(name, func(t *testing.T) {
			r := honest()
			c.change(r)
			if got := Honest(r); !slices.Equal(got, c.want) {
				t.Errorf("got  %q\nwant %q", got, c.want)
			}
		})
	}
}
