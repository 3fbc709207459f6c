package measure

import (
	"cmp"
	"fmt"
	"math"
	"slices"
)

// The limits of an honest run: beyond them the figures say more about the
// machine than about the mesh.
const (
	// LagLimit bounds the 99th percentile of the generator's lag, in ms.
	LagLimit = 5.0
	// LatenessLimit bounds the median lateness of a service's replicas, as a
	// part of the service time that they model.
	LatenessLimit = 0.05
	// HostCPULimit bounds the mean busy share of all cores in the measured time.
	HostCPULimit = 0.90
	// GapLimit bounds the part of the measured time for which one replica could
	// not be scraped.
	GapLimit = 0.05
)

// stolenTold is the share of CPU that a hypervisor must have kept from the machine
// to be named where arrivals were late. It is no limit: what it did to the run
// shows in lag and lateness.
const stolenTold = 0.05

// Honest is every reason why the run cannot be believed, in words; none when it
// can. What was not recorded cannot be vouched for, and is a reason.
func Honest(r *Recording) []string {
	var why []string
	say := func(format string, args ...any) { why = append(why, fmt.Sprintf(format, args...)) }
	if r.CutShort {
		say("the run was cut short")
	}
	if len(r.Load) == 0 {
		say("no load was recorded")
	}
	if !(r.LagP99 <= LagLimit) {
		blame := ""
		if stolen := r.worstStolen(); stolen > stolenTold {
			blame = fmt.Sprintf("; the hypervisor kept this machine waiting for up to %.0f %% of its CPU", 100*stolen)
		}
		say("the generator was late: the 99th percentile of its lag is %.1f ms, more than %g ms%s", r.LagP99, LagLimit, blame)
	}
	for _, s := range r.Services {
		if s.ServiceTime > 0 && !(s.LatenessP50 <= LatenessLimit*s.ServiceTime) {
			say("half of the calls at %s were answered %.1f ms or more later than modelled, more than %g %% of the service time of %g ms",
				s.Name, s.LatenessP50, 100*LatenessLimit, s.ServiceTime)
		}
	}
	switch busy, ok := r.hostCPU(); {
	case !ok:
		say("the host's CPU was not recorded")
	case !(busy <= HostCPULimit):
		say("the host was busy: %.0f %% of its CPU on average, more than %g %%", 100*busy, 100*HostCPULimit)
	}
	return append(why, r.unscraped()...)
}

// hostCPU is the mean busy share of the host in the measured time.
func (r *Recording) hostCPU() (float64, bool) {
	if len(r.HostCPU) == 0 || r.Warmup >= r.Duration {
		return 0, false
	}
	return r.HostCPU.integral(r.Warmup, r.Duration) / (r.Duration - r.Warmup), true
}

// worstStolen is the largest share of CPU that a hypervisor kept from the machine
// in the measured time.
func (r *Recording) worstStolen() float64 {
	worst := 0.0
	for _, p := range r.HostStolen {
		if p.T >= r.Warmup && p.T < r.Duration {
			worst = max(worst, p.V)
		}
	}
	return worst
}

// unscraped names the replicas that could not be scraped for too long. A gap
// while a fault is in force is the fault's doing: a paused replica answers
// nobody.
func (r *Recording) unscraped() []string {
	missing := make(map[string]float64)
	for _, g := range r.Gaps {
		from, to := max(g.From, r.Warmup), min(g.To, r.Duration)
		cuts := Series{}
		for _, f := range r.Faults {
			cuts = append(cuts, Point{T: f.From}, Point{T: f.To})
		}
		pieces(from, to, func(t, dt float64) {
			faulty := slices.ContainsFunc(r.Faults, func(f Window) bool { return f.From <= t && t+dt <= f.To })
			if !faulty {
				missing[g.Text] += dt
			}
		}, cuts)
	}
	var why []string
	for replica, seconds := range missing {
		if seconds > GapLimit*(r.Duration-r.Warmup) {
			why = append(why, fmt.Sprintf("%s could not be scraped for %.0f s, more than %g %% of the time",
				cmp.Or(replica, "a replica"), math.Ceil(seconds), 100*GapLimit))
		}
	}
	slices.Sort(why)
	return why
}
