package autoscaler_test

import (
	"testing"
	"testing/synctest"
	"time"

	"spillway.dev/lab/autoscaler"
)

// The worked cases of the Kubernetes documentation, "Horizontal Pod
// Autoscaling" and its walkthrough, as series of replicas with the time of each
// change: https://kubernetes.io/docs/concepts/workloads/autoscaling/horizontal-pod-autoscale/
// and https://kubernetes.io/docs/tasks/run-application/horizontal-pod-autoscale-walkthrough/.
// The controller looks every 15 s.

const (
	// perPod wants 100 packets a second of each pod.
	perPod = `
minReplicas: 1
maxReplicas: 100
metrics:
  - type: Pods
    pods:
      metric: {name: packets}
      target: {type: AverageValue, averageValue: "100"}
`
	// halfCPU wants half of what a pod asks for.
	halfCPU = `
minReplicas: 1
maxReplicas: 10
metrics:
  - type: Resource
    resource:
      name: cpu
      target: {type: Utilization, averageUtilization: 50}
`
	// atOnce takes the steps out of scaling, so that a ratio is seen bare.
	atOnce = `
behavior:
  scaleDown: {stabilizationWindowSeconds: 0}
  scaleUp: {policies: [{type: Percent, value: 900, periodSeconds: 15}]}
`
)

// always is a value of every pod.
func always(v float64) func(int, *pod) (float64, bool) {
	return func(int, *pod) (float64, bool) { return v, true }
}

// shared is a load that the pods share evenly.
func shared(d *demo, total func() float64) func(int, *pod) (float64, bool) {
	return func(int, *pod) (float64, bool) { return total() / float64(len(d.pods)), true }
}

// switching is a value that changes at a time after the test's begin.
func switching(before float64, at time.Duration, after float64) func() float64 {
	began := time.Now()
	return func() float64 {
		if time.Since(began) < at {
			return before
		}
		return after
	}
}

type workedCase struct {
	name string
	// says is the documentation's sentence, shortened.
	says     string
	hpa      string
	replicas int
	load     func(d *demo)
	lasts    time.Duration
	want     string
	// active is the reason of the condition ScalingActive at the end, and limited
	// that of ScalingLimited, where the case is about them.
	active, limited string
	events          []string
}

func TestWorkedCases(t *testing.T) {
	for _, group := range [][]workedCase{algorithm, missing, behaviours, sources} {
		for _, c := range group {
			t.Run(c.name, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					d := newDemo(t, c.replicas, c.hpa)
					c.load(d)
					began := time.Now()
					a := d.run(autoscaler.Config{})
					pass(c.lasts)
					if got := told(a, began); got != c.want {
						t.Errorf("%s\n got %q\nwant %q\nevents %v", c.says, got, c.want, reasons(a))
					}
					if got := condition(a, "ScalingActive"); c.active != "" && got != c.active {
						t.Errorf("ScalingActive is %q, want %q", got, c.active)
					}
					if got := condition(a, "ScalingLimited"); c.limited != "" && got != c.limited {
						t.Errorf("ScalingLimited is %q, want %q", got, c.limited)
					}
					for _, reason := range c.events {
						if reasons(a)[reason] == 0 {
							t.Errorf("no event %s among %v", reason, reasons(a))
						}
					}
				})
			})
		}
	}
}

var algorithm = []workedCase{
	{
		name: "twice the target doubles",
		says: "if the current metric value is 200m, and the desired value is 100m, the number of replicas will be doubled",
		hpa:  perPod + atOnce, replicas: 3,
		load: func(d *demo) { d.each("demo_packets", shared(d, switching(600, time.Hour, 0))) },
		want: "15s 3→6", lasts: time.Minute,
		active: "True ValidMetricFound", events: []string{"SuccessfulRescale"},
	},
	{
		name: "half the target halves",
		says: "if the current value is instead 50m, you'll halve the number of replicas",
		hpa:  perPod + atOnce, replicas: 6,
		load: func(d *demo) { d.each("demo_packets", shared(d, switching(300, time.Hour, 0))) },
		want: "15s 6→3", lasts: time.Minute,
	},
	{
		name: "rounded up",
		says: "desiredReplicas = ceil[currentReplicas × ( currentMetricValue / desiredMetricValue )]",
		hpa:  perPod + atOnce, replicas: 3,
		load: func(d *demo) { d.each("demo_packets", shared(d, switching(401, time.Hour, 0))) },
		want: "15s 3→5", lasts: time.Minute,
	},
	{
		name: "within the tolerance above",
		says: "skips any scaling action if the ratio is sufficiently close to 1.0 (0.1 by default)",
		hpa:  perPod + atOnce, replicas: 10,
		load: func(d *demo) { d.each("demo_packets", always(110)) },
		want: "", lasts: 2 * time.Minute, active: "True ValidMetricFound",
	},
	{
		name: "within the tolerance below",
		says: "skips any scaling action if the ratio is sufficiently close to 1.0 (0.1 by default)",
		hpa:  perPod + atOnce, replicas: 10,
		load: func(d *demo) { d.each("demo_packets", always(90)) },
		want: "", lasts: 2 * time.Minute,
	},
	{
		name: "tolerance of the HPA's own",
		says: "with a tolerance of 5 % for scaling up, 106 of 100 scales; scaling down keeps the 10 %",
		hpa: perPod + `
behavior:
  scaleDown: {stabilizationWindowSeconds: 0}
  scaleUp: {tolerance: 50m}
`, replicas: 20,
		load: func(d *demo) {
			value := switching(106, 40*time.Second, 91)
			d.each("demo_packets", func(int, *pod) (float64, bool) { return value(), true })
		},
		// At 15 s and 30 s one in twenty too few: 20×1.06 = 21.2, then 22×1.06 = 23.3.
		want: "15s 20→22, 30s 22→24", lasts: 2 * time.Minute,
	},
	{
		name: "walkthrough",
		says: "CPU consumption has increased to 305% of the request; as a result, the Deployment was resized to 7 replicas",
		hpa:  halfCPU, replicas: 1,
		load: func(d *demo) { d.usage(shared(d, switching(3.05, 10*time.Minute, 0))) },
		// 305/50 is 7, but one pod may become four at once; the recommendation holds,
		// though the new pods count only after a minute. 43 % of each of seven is
		// still 7. When the load has gone for five minutes, one is left.
		want: "15s 1→4, 30s 4→7, 15m0s 7→1", lasts: 20 * time.Minute,
	},
	{
		name: "above the maximum",
		says: "replicas are brought into the bounds at once, whatever the metrics",
		hpa:  perPod, replicas: 120,
		load: func(d *demo) { d.each("demo_packets", always(100)) },
		want: "15s 120→100", lasts: time.Minute,
	},
	{
		name: "limited by the maximum",
		says: "the desired count is more than the maximum replica count",
		hpa:  halfCPU, replicas: 8,
		load: func(d *demo) { d.usage(always(1)) },
		want: "15s 8→10", lasts: time.Minute,
		limited: "True TooManyReplicas",
	},
	{
		name: "no replicas",
		says: "if the replicas of the target are set to 0, the HPA stops adjusting them until you reactivate it",
		hpa:  perPod, replicas: 0,
		load: func(d *demo) { d.each("demo_packets", always(500)) },
		want: "", lasts: time.Minute, active: "False ScalingDisabled",
	},
}

var missing = []workedCase{
	{
		name: "missing metrics count as the target when scaling down",
		says: "assuming those Pods were consuming 100% of the desired value in case of a scale down",
		hpa:  perPod + atOnce, replicas: 4,
		load: func(d *demo) {
			d.each("demo_packets", func(i int, _ *pod) (float64, bool) { return 50, i != 3 })
		},
		// (3×50 + 100) / 400 × 4 = 2.5: three, not two. Then none is missing.
		want: "15s 4→3, 30s 3→2, 45s 2→1", lasts: 50 * time.Second,
	},
	{
		name: "missing metrics count as nothing when scaling up",
		says: "and 0% in case of a scale up",
		hpa:  perPod + atOnce, replicas: 4,
		load: func(d *demo) {
			d.each("demo_packets", func(i int, _ *pod) (float64, bool) { return 200, i < 3 })
		},
		// 3×200 / 400 × 4 = 6; of six then three are missing, and the ratio is 1.
		want: "15s 4→6", lasts: 2 * time.Minute,
	},
	{
		name: "missing metrics that would turn the direction",
		says: "if the new ratio reverses the scale direction, or is within the tolerance, no action is taken",
		hpa:  perPod + atOnce, replicas: 4,
		load: func(d *demo) {
			d.each("demo_packets", func(i int, _ *pod) (float64, bool) { return 150, i == 0 })
		},
		want: "", lasts: 2 * time.Minute, active: "True ValidMetricFound",
	},
	{
		name: "all metrics missing",
		says: "if metrics cannot be fetched, scaling is skipped",
		hpa:  perPod + atOnce, replicas: 4,
		load: func(d *demo) { d.each("demo_packets", func(int, *pod) (float64, bool) { return 0, false }) },
		want: "", lasts: 2 * time.Minute,
		active: "False FailedGetPodsMetric", events: []string{"FailedGetPodsMetric", "FailedComputeMetricsReplicas"},
	},
	{
		name: "unready pods count as nothing when scaling up",
		says: "conservatively assumes that the not-yet-ready pods are consuming 0% of the desired metric",
		hpa:  halfCPU, replicas: 2,
		load: func(d *demo) {
			d.usage(always(0.9))
			// The second has just started.
			d.pods[1].start, d.pods[1].ready, d.pods[1].readySince = time.Now(), false, time.Now()
		},
		// One ready pod at 180 % of the target and one at 0: 0.9 in all, within the
		// tolerance.
		want: "", lasts: 4 * time.Minute, active: "True ValidMetricFound",
	},
	{
		name: "unready pods are left out when scaling down",
		says: "if all other pods are below the target, those not ready do not hold the scale down",
		hpa:  halfCPU + atOnce, replicas: 4,
		load: func(d *demo) {
			d.usage(always(0.25))
			d.pods[3].start, d.pods[3].ready, d.pods[3].readySince = time.Now(), false, time.Now()
		},
		// Three ready pods at half the target: 1.5, so two; those two halve again.
		want: "15s 4→2, 30s 2→1", lasts: 2 * time.Minute,
	},
	{
		name: "pods that are going do not count",
		says: "pods with a deletion timestamp are ignored, failed pods are discarded",
		hpa:  perPod + atOnce, replicas: 4,
		load: func(d *demo) {
			d.each("demo_packets", func(i int, _ *pod) (float64, bool) {
				if i < 2 {
					return 100, true
				}
				return 1000, true
			})
			d.pods[2].terminating = true
			d.pods[3].phase = "Failed"
		},
		want: "", lasts: 2 * time.Minute, active: "True ValidMetricFound",
	},
	{
		name: "CPU before the first full window",
		says: "a pod's CPU counts when it has been ready for as long as the metric is averaged over",
		hpa:  halfCPU, replicas: 1,
		load: func(d *demo) {
			d.starts = 20 * time.Second
			d.usage(always(2))
		},
		// 200/50 is 4. The new ones are ready at 35 s and count from 95 s on, with the
		// look at 105 s; sixteen are asked for then, and ten allowed.
		want: "15s 1→4, 1m45s 4→8, 2m0s 8→10", lasts: 4 * time.Minute,
	},
}
