package autoscaler_test

import "time"

// down10 wants one replica of each hundred of a queue's length.
const down10 = `
minReplicas: 10
maxReplicas: 100
metrics:
  - type: External
    external:
      metric: {name: queue_messages_ready}
      target: {type: AverageValue, averageValue: "100"}
`

// queue is the length of the worker's queue.
func queue(d *demo, length func() float64) {
	d.one("queue_messages_ready", map[string]string{"queue": "worker_tasks"}, length)
}

var behaviours = []workedCase{
	{
		name: "the default way up",
		says: "there is no stabilization window; 4 pods or a 100% increase may be added every 15 seconds",
		hpa: `
maxReplicas: 100
metrics:
  - type: External
    external:
      metric: {name: queue_messages_ready}
      target: {type: AverageValue, averageValue: "100"}
behavior: {}
`, replicas: 1,
		load: func(d *demo) { queue(d, switching(9000, time.Hour, 0)) },
		want: "15s 1→5, 30s 5→10, 45s 10→20, 1m0s 20→40, 1m15s 40→80, 1m30s 80→90", lasts: 3 * time.Minute,
	},
	{
		name: "the default way down",
		says: "for scaling down the stabilization window is 300 seconds; then all may go at once",
		hpa:  down10, replicas: 50,
		load: func(d *demo) { queue(d, switching(5000, 40*time.Second, 2000)) },
		// 50 was recommended last at 30 s, which is just inside the window at 330 s.
		want: "5m45s 50→20", lasts: 10 * time.Minute,
	},
	{
		name: "the highest of the window",
		says: "the controller picks the highest recommendation of the past five minutes",
		hpa:  down10, replicas: 50,
		load: func(d *demo) {
			first, then := switching(5000, 40*time.Second, 3000), switching(0, 100*time.Second, 1)
			queue(d, func() float64 {
				if then() == 1 {
					return 2000
				}
				return first()
			})
		},
		want: "5m45s 50→30, 6m45s 30→20", lasts: 10 * time.Minute,
	},
	{
		name: "two policies, the greater one",
		says: "from 80 to 10: 10% of 80 is 8, of 72 it is 7.2, rounded up to 8; below 40 the 4 pods apply",
		hpa: down10 + `
behavior:
  scaleDown:
    stabilizationWindowSeconds: 0
    policies:
      - {type: Pods, value: 4, periodSeconds: 60}
      - {type: Percent, value: 10, periodSeconds: 60}
`, replicas: 80,
		load: func(d *demo) { queue(d, func() float64 { return 1000 }) },
		want: "15s 80→72, 1m15s 72→64, 2m15s 64→57, 3m15s 57→51, 4m15s 51→45, 5m15s 45→40, 6m15s 40→36, 7m15s 36→32, " +
			"8m15s 32→28, 9m15s 28→24, 10m15s 24→20, 11m15s 20→16, 12m15s 16→12, 13m15s 12→10",
		lasts: 20 * time.Minute,
	},
	{
		name: "two policies, the smaller one",
		says: "to ensure that no more than 5 Pods are removed per minute, set selectPolicy to Min",
		hpa: down10 + `
behavior:
  scaleDown:
    stabilizationWindowSeconds: 0
    policies:
      - {type: Percent, value: 10, periodSeconds: 60}
      - {type: Pods, value: 5, periodSeconds: 60}
    selectPolicy: Min
`, replicas: 80,
		load: func(d *demo) { queue(d, func() float64 { return 1000 }) },
		want: "15s 80→75, 1m15s 75→70, 2m15s 70→65", lasts: 3 * time.Minute,
		limited: "True ScaleDownLimit",
	},
	{
		name: "scaling down disabled",
		says: "selectPolicy Disabled turns off scaling in the given direction",
		hpa: down10 + `
behavior:
  scaleDown: {selectPolicy: Disabled}
`, replicas: 40,
		load: func(d *demo) { queue(d, switching(1000, 100*time.Second, 6000)) },
		want: "1m45s 40→60", lasts: 10 * time.Minute,
	},
	{
		name: "scaling up disabled",
		says: "selectPolicy Disabled turns off scaling in the given direction",
		hpa: down10 + `
behavior:
  scaleUp: {selectPolicy: Disabled}
  scaleDown: {stabilizationWindowSeconds: 0}
`, replicas: 40,
		load: func(d *demo) { queue(d, switching(9000, 100*time.Second, 2000)) },
		want: "1m45s 40→20", lasts: 10 * time.Minute,
	},
	{
		name: "a shorter window down",
		says: "to provide a custom downscale stabilization window of 1 minute",
		hpa: down10 + `
behavior:
  scaleDown: {stabilizationWindowSeconds: 60}
`, replicas: 50,
		load: func(d *demo) { queue(d, switching(5000, 40*time.Second, 2000)) },
		want: "1m30s 50→20", lasts: 5 * time.Minute,
	},
	{
		name: "a window up",
		says: "when scaling up, the lowest recommendation of the window counts",
		hpa: down10 + `
behavior:
  scaleUp: {stabilizationWindowSeconds: 60}
`, replicas: 20,
		load: func(d *demo) {
			first, then := switching(2000, 40*time.Second, 8000), switching(0, 70*time.Second, 1)
			queue(d, func() float64 {
				if then() == 1 {
					return 4000
				}
				return first()
			})
		},
		want: "1m30s 20→40", lasts: 5 * time.Minute,
	},
	{
		name: "pods per period up",
		says: "a policy of 2 pods per minute adds two a minute",
		hpa: down10 + `
behavior:
  scaleUp:
    policies: [{type: Pods, value: 2, periodSeconds: 60}]
`, replicas: 10,
		load: func(d *demo) { queue(d, func() float64 { return 1600 }) },
		want: "15s 10→12, 1m15s 12→14, 2m15s 14→16", lasts: 5 * time.Minute,
	},
}

var sources = []workedCase{
	{
		name: "the largest of several metrics",
		says: "this calculation is done for each metric, and then the largest of the desired replica counts is chosen",
		hpa: `
maxReplicas: 20
metrics:
  - type: Resource
    resource: {name: cpu, target: {type: Utilization, averageUtilization: 50}}
  - type: Pods
    pods: {metric: {name: packets}, target: {type: AverageValue, averageValue: "1000"}}
  - type: Object
    object:
      metric: {name: requests}
      describedObject: {apiVersion: v1, kind: Service, name: main-route}
      target: {type: Value, value: "10000"}
`, replicas: 4,
		load: func(d *demo) {
			d.usage(always(0.5))
			d.each("demo_packets", always(1250)) // asks for 5
			d.one("demo_requests", map[string]string{"service": "main-route", "namespace": "spillway"}, switching(15000, 20*time.Second, 10000))
		},
		// Requests ask for 6, and packets go on asking: 1.25 of what there is each time.
		want: "15s 4→6, 30s 6→8, 45s 8→10", lasts: 50 * time.Second,
	},
	{
		name: "a metric away holds back scaling down",
		says: "if any metric cannot be converted and a scale down is suggested by the others, scaling is skipped",
		hpa: down10 + `
  - type: Pods
    pods: {metric: {name: nothing}, target: {type: AverageValue, averageValue: "1"}}
behavior:
  scaleDown: {stabilizationWindowSeconds: 0}
`, replicas: 40,
		load: func(d *demo) { queue(d, func() float64 { return 2000 }) },
		want: "", lasts: 5 * time.Minute,
		active: "False FailedGetPodsMetric", events: []string{"FailedGetPodsMetric"},
	},
	{
		name: "a metric away does not hold back scaling up",
		says: "the HPA is still capable of scaling up if one or more metrics give more than the current replicas",
		hpa: down10 + `
  - type: Pods
    pods: {metric: {name: nothing}, target: {type: AverageValue, averageValue: "1"}}
`, replicas: 20,
		load: func(d *demo) { queue(d, func() float64 { return 4000 }) },
		want: "15s 20→40", lasts: 5 * time.Minute,
		active: "True ValidMetricFound", events: []string{"FailedGetPodsMetric", "SuccessfulRescale"},
	},
	{
		name: "external, shared among the pods",
		says: "queue_messages_ready of queue worker_tasks with an averageValue of 30 scales to one worker per 30 tasks",
		hpa: `
maxReplicas: 20
metrics:
  - type: External
    external:
      metric:
        name: queue_messages_ready
        selector: {matchLabels: {queue: worker_tasks}}
      target: {type: AverageValue, averageValue: "30"}
`, replicas: 2,
		load: func(d *demo) {
			queue(d, func() float64 { return 130 })
			d.one("queue_messages_ready", map[string]string{"queue": "mail"}, func() float64 { return 9000 })
		},
		want: "15s 2→4, 30s 4→5", lasts: 5 * time.Minute,
	},
	{
		name: "external, as a whole",
		says: "with type Value the metric is compared directly to the target",
		hpa: `
maxReplicas: 20
metrics:
  - type: External
    external:
      metric: {name: queue_messages_ready, selector: {matchExpressions: [{key: queue, operator: In, values: [worker_tasks]}]}}
      target: {type: Value, value: "100"}
`, replicas: 4,
		load: func(d *demo) { queue(d, switching(150, 20*time.Second, 100)) },
		want: "15s 4→6", lasts: 5 * time.Minute,
	},
	{
		name: "object, divided by the pods",
		says: "with type AverageValue the value of the object is divided by the number of pods",
		hpa: `
maxReplicas: 20
metrics:
  - type: Object
    object:
      metric: {name: requests}
      describedObject: {apiVersion: v1, kind: Service, name: main-route}
      target: {type: AverageValue, averageValue: "2000"}
`, replicas: 3,
		load: func(d *demo) {
			d.one("demo_requests", map[string]string{"service": "main-route", "namespace": "spillway"}, func() float64 { return 10000 })
			d.one("demo_requests", map[string]string{"service": "other", "namespace": "spillway"}, func() float64 { return 90000 })
		},
		want: "15s 3→5", lasts: 5 * time.Minute,
	},
	{
		name: "one container of the pod",
		says: "containerResource tracks the usage of individual containers: a sidecar at rest does not hide the application",
		hpa: `
maxReplicas: 20
metrics:
  - type: ContainerResource
    containerResource:
      name: cpu
      container: application
      target: {type: Utilization, averageUtilization: 60}
behavior:
  scaleUp: {policies: [{type: Percent, value: 50, periodSeconds: 600}]}
`, replicas: 4,
		load: func(d *demo) {
			d.usage(always(0.9))
			d.eachOf("cpu_cores", "sidecar", always(0))
			d.eachOf("memory_bytes", "sidecar", always(0))
		},
		want: "15s 4→6", lasts: 5 * time.Minute,
	},
	{
		name: "usage as it is",
		says: "averageValue sets the target in usage instead of a percentage of the request",
		hpa: `
maxReplicas: 20
metrics:
  - type: Resource
    resource: {name: cpu, target: {type: AverageValue, averageValue: 500m}}
`, replicas: 2,
		load: func(d *demo) { d.usage(shared(d, func() float64 { return 1.6 })) },
		want: "15s 2→4", lasts: 50 * time.Second,
	},
}
