package autoscaler_test

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/prometheus/promql"
	autoscalingv2 "k8s.io/api/autoscaling/v2"

	"spillway.dev/lab/autoscaler"
)

// settled asserts what was rescaled since began.
func settled(t *testing.T, a *autoscaler.Autoscaler, began time.Time, want string) {
	t.Helper()
	if got := told(a, began); got != want {
		t.Errorf("got %q, want %q; events %v", got, want, reasons(a))
	}
}

func TestReplicasSetByHand(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDemo(t, 3, perPod+atOnce)
		d.each("demo_packets", shared(d, func() float64 { return 300 }))
		began := time.Now()
		a := d.run(autoscaler.Config{})
		pass(20 * time.Second)
		if _, err := d.setReplicas("demo", 12); err != nil {
			t.Fatal(err)
		}
		pass(20 * time.Second)
		settled(t, a, began, "30s 12→3")
		if _, err := d.setReplicas("demo", 0); err != nil {
			t.Fatal(err)
		}
		pass(time.Minute)
		if got := condition(a, autoscalingv2.ScalingActive); got != "False ScalingDisabled" {
			t.Errorf("at 0 replicas ScalingActive is %q", got)
		}
		if _, err := d.setReplicas("demo", 1); err != nil {
			t.Fatal(err)
		}
		pass(20 * time.Second)
		settled(t, a, began, "30s 12→3, 1m45s 1→3")
	})
}

// Hands that set replicas all the time and a controller that does too leave
// both alive, and the controller has the last word.
func TestReplicasSetByHandAllTheTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDemo(t, 3, perPod+atOnce)
		d.each("demo_packets", shared(d, func() float64 { return 500 }))
		a := d.run(autoscaler.Config{Timelapse: 15})
		for i := range 3000 {
			if _, err := d.setReplicas("demo", 1+i%60); err != nil {
				t.Fatal(err)
			}
			pass(7 * time.Millisecond)
		}
		pass(time.Minute)
		if d.wanted != 5 {
			t.Errorf("%d replicas, want 5; events %v", d.wanted, reasons(a))
		}
	})
}

func TestDeploymentComesAndGoes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDemo(t, 3, perPod+atOnce)
		d.each("demo_packets", shared(d, func() float64 { return 600 }))
		d.gone = true
		began := time.Now()
		a := d.run(autoscaler.Config{})
		pass(40 * time.Second)
		if got := condition(a, autoscalingv2.AbleToScale); got != "False FailedGetScale" {
			t.Errorf("without the Deployment AbleToScale is %q", got)
		}
		if n := reasons(a)["FailedGetScale"]; n != 2 {
			t.Errorf("%d events FailedGetScale in two looks", n)
		}
		d.change(func() { d.gone = false })
		pass(20 * time.Second)
		settled(t, a, began, "45s 3→6")
		if got := condition(a, autoscalingv2.AbleToScale); !strings.HasPrefix(got, "True") {
			t.Errorf("with the Deployment AbleToScale is %q", got)
		}
	})
}

func TestHPAsComeAndGo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDemo(t, 3)
		d.each("demo_packets", shared(d, func() float64 { return 900 }))
		began := time.Now()
		a := d.run(autoscaler.Config{})
		pass(20 * time.Second)
		add := func(spec string) {
			h := hpa(t, spec)
			d.change(func() { d.hpas = []*autoscalingv2.HorizontalPodAutoscaler{h} })
		}
		add(strings.Replace(perPod, "100\n", "6\n", 1) + atOnce)
		pass(20 * time.Second)
		settled(t, a, began, "35s 3→6")

		before := a.HPAs()[0]
		add(perPod + atOnce)
		pass(time.Second)
		after := a.HPAs()[0]
		if after.Spec.MaxReplicas != 100 || after.Status.CurrentReplicas != before.Status.CurrentReplicas ||
			after.UID != before.UID || after.Generation != before.Generation+1 {
			t.Errorf("a changed HPA was not continued: before %+v, after %+v", before, after)
		}
		pass(20 * time.Second)
		settled(t, a, began, "35s 3→6, 50s 6→9")

		add(strings.Replace(perPod, "minReplicas: 1", "minReplicas: 200", 1))
		pass(time.Minute)
		if n := reasons(a)["Invalid"]; n != 1 || len(a.HPAs()) != 0 {
			t.Errorf("an HPA that Kubernetes refuses is acted on: %d events Invalid, %d HPAs", n, len(a.HPAs()))
		}
		d.change(func() { d.hpas = nil })
		if _, err := d.setReplicas("demo", 3); err != nil {
			t.Fatal(err)
		}
		pass(time.Minute)
		add(perPod + atOnce)
		pass(16 * time.Second)
		settled(t, a, began, "35s 3→6, 50s 6→9, 3m16s 3→9")
	})
}

func TestTwoHPAsForOneDeployment(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDemo(t, 3, perPod, perPod)
		d.hpas[1].Name = "second"
		d.each("demo_packets", shared(d, func() float64 { return 900 }))
		a := d.run(autoscaler.Config{})
		pass(time.Minute)
		if reasons(a)["AmbiguousSelector"] == 0 {
			t.Errorf("two HPAs scale one Deployment without a word: %v", reasons(a))
		}
	})
}

// While the store is away, replicas stay; every look tells so, beyond the 25
// events that Kubernetes lets an object have.
func TestMetricsAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDemo(t, 3, perPod+atOnce)
		d.each("demo_packets", shared(d, func() float64 { return 600 }))
		d.away = errAway
		began := time.Now()
		a := d.run(autoscaler.Config{})
		pass(10*time.Minute + time.Second)
		settled(t, a, began, "")
		if got := condition(a, autoscalingv2.ScalingActive); got != "False FailedGetPodsMetric" {
			t.Errorf("ScalingActive is %q", got)
		}
		if n := reasons(a)["FailedGetPodsMetric"]; n != 40 {
			t.Errorf("%d events FailedGetPodsMetric in 40 looks", n)
		}
		events, _, _ := a.Events().After(0)
		if e := events[0]; e.Type != "Warning" || e.Kind != "HorizontalPodAutoscaler" || e.Name != "demo" ||
			!strings.Contains(e.Message, errAway.Error()) || e.At.Sub(began) != 15*time.Second {
			t.Errorf("the first event is %+v", e)
		}
		d.mu.Lock()
		d.away = nil
		d.mu.Unlock()
		pass(15 * time.Second)
		settled(t, a, began, "10m15s 3→6")
	})
}

// A store that does not answer is given up before the next look.
func TestMetricsHang(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDemo(t, 3, halfCPU)
		ctx, stop := context.WithCancel(t.Context())
		a, err := autoscaler.New(autoscaler.Config{Rules: "testdata/rules.yaml"}, d.cluster(),
			func(ctx context.Context, _ string, _ time.Time) (promql.Vector, error) {
				<-ctx.Done()
				return nil, ctx.Err()
			})
		if err != nil {
			t.Fatal(err)
		}
		done := make(chan error)
		go func() { done <- a.Run(ctx) }()
		pass(5 * time.Minute)
		if n := reasons(a)["FailedGetResourceMetric"]; n < 9 {
			t.Errorf("%d events FailedGetResourceMetric in five minutes", n)
		}
		stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

func TestRescaleRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDemo(t, 3, perPod+atOnce)
		d.each("demo_packets", shared(d, func() float64 { return 600 }))
		d.refuse = errors.New("no room")
		began := time.Now()
		a := d.run(autoscaler.Config{})
		pass(20 * time.Second)
		settled(t, a, began, "")
		if got := condition(a, autoscalingv2.AbleToScale); reasons(a)["FailedRescale"] != 1 || got != "False FailedUpdateScale" {
			t.Errorf("AbleToScale is %q, events %v", got, reasons(a))
		}
		d.change(func() { d.refuse = nil })
		pass(15 * time.Second)
		settled(t, a, began, "30s 3→6")
	})
}

// A run in time-lapse does the same in less time.
func TestTimelapse(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDemo(t, 50, down10+`
behavior:
  scaleDown:
    stabilizationWindowSeconds: 65
    policies: [{type: Pods, value: 10, periodSeconds: 60}]
  scaleUp:
    policies: [{type: Pods, value: 1, periodSeconds: 4}]
`)
		queue(d, switching(5000, 4*time.Second, 1000))
		began := time.Now()
		a := d.run(autoscaler.Config{Timelapse: 10})
		pass(time.Minute)
		// As the case "a shorter window down", at a tenth: 50 was recommended last at
		// 3 s, and the window is 6.5 s, taken as 6 s.
		settled(t, a, began, "9s 50→40, 15s 40→30, 21s 30→20, 27s 20→10")
		h := a.HPAs()[0]
		if h.Annotations["spillway.dev/timelapse"] != "10" || *h.Spec.Behavior.ScaleDown.StabilizationWindowSeconds != 6 ||
			h.Spec.Behavior.ScaleDown.Policies[0].PeriodSeconds != 6 || h.Spec.Behavior.ScaleUp.Policies[0].PeriodSeconds != 1 {
			t.Errorf("the HPA in time-lapse: annotations %v, behaviour %v", h.Annotations, h.Spec.Behavior)
		}
		if d.hpas[0].Annotations != nil || *d.hpas[0].Spec.Behavior.ScaleDown.StabilizationWindowSeconds != 65 {
			t.Error("the engine's HPA was changed")
		}
		events, _, _ := a.Events().After(0)
		var rounded []string
		for _, e := range events {
			if e.Reason == "DurationRounded" {
				rounded = append(rounded, e.Message)
			}
		}
		want := []string{
			"scaleUp.policies[0].periodSeconds: 4 s divided by 10 is 0.40 s, taken as 1 s",
			"scaleDown.stabilizationWindowSeconds: 65 s divided by 10 is 6.50 s, taken as 6 s",
		}
		if fmt.Sprint(rounded) != fmt.Sprint(want) {
			t.Errorf("rounded %q, want %q", rounded, want)
		}
	})
}

// The documentation's default way up and down, ten times as fast: no period is
// longer for its rounding than the time between two looks.
func TestTimelapseOfDefaults(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDemo(t, 10, down10+"behavior: {}\n")
		queue(d, switching(8000, 20*time.Second, 1000))
		began := time.Now()
		a := d.run(autoscaler.Config{Timelapse: 10})
		pass(2 * time.Minute)
		settled(t, a, began, "1.5s 10→20, 3s 20→40, 4.5s 40→80, 49.5s 80→10")
	})
}

func TestNewRefuses(t *testing.T) {
	d := newDemo(t, 1)
	for want, c := range map[string]autoscaler.Config{
		"Timelapse is 0.5":       {Rules: "testdata/rules.yaml", Timelapse: 0.5},
		"no such file":           {Rules: filepath.Join(t.TempDir(), "rules.yaml")},
		"testdata/unknown.yaml":  {Rules: "testdata/unknown.yaml"},
		"field metricQuery not ": {Rules: "testdata/unknown.yaml"},
	} {
		if _, err := autoscaler.New(c, d.cluster(), d.query); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v, want one with %q", err, want)
		}
	}
}

func TestRunsOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDemo(t, 1)
		a := d.run(autoscaler.Config{})
		synctest.Wait()
		if err := a.Run(t.Context()); err == nil {
			t.Error("a second Run is no error")
		}
	})
}
