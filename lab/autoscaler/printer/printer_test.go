package printer_test

import (
	"bytes"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	"spillway.dev/lab/autoscaler/printer"
	autoscalerv1 "spillway.dev/proto/gen/spillway/autoscaler/v1"
)

var update = flag.Bool("update", false, "write golden files anew")

const cpu = `{
	"apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler",
	"metadata": {"name": "order", "namespace": "spillway", "creationTimestamp": "1999-12-31T23:50:00Z",
		"annotations": {"spillway.dev/timelapse": "10"}},
	"spec": {
		"scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "order"},
		"minReplicas": 2, "maxReplicas": 8,
		"metrics": [{"type": "Resource", "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 70}}}],
		"behavior": {"scaleDown": {"stabilizationWindowSeconds": 30, "selectPolicy": "Max",
			"policies": [{"type": "Percent", "value": 100, "periodSeconds": 2}]}}
	},
	"status": {"currentReplicas": 3, "desiredReplicas": 5,
		"currentMetrics": [{"type": "Resource", "resource": {"name": "cpu", "current": {"averageUtilization": 95, "averageValue": "95m"}}}],
		"conditions": [
			{"type": "AbleToScale", "status": "True", "reason": "SucceededRescale", "message": "the HPA controller was able to update the target scale to 5"},
			{"type": "ScalingActive", "status": "True", "reason": "ValidMetricFound", "message": "the HPA was able to successfully calculate a replica count from cpu resource utilization (percentage of request)"}
		]}
}`

const pressure = `{
	"apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler",
	"metadata": {"name": "payment", "namespace": "spillway", "creationTimestamp": "1999-12-31T23:50:00Z"},
	"spec": {
		"scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "payment"},
		"minReplicas": 2, "maxReplicas": 8,
		"metrics": [{"type": "External", "external": {"metric": {"name": "service_pressure"}, "target": {"type": "Value", "value": "700m"}}}]
	},
	"status": {"currentReplicas": 2, "desiredReplicas": 0}
}`

const deployment = `{
	"apiVersion": "apps/v1", "kind": "Deployment",
	"metadata": {"name": "order", "namespace": "spillway", "creationTimestamp": "1999-12-31T23:50:00Z"},
	"spec": {"replicas": 5, "selector": {"matchLabels": {"app.kubernetes.io/name": "order"}},
		"template": {"spec": {"containers": [{"name": "service", "image": "spillway/order:0.1.0"}]}}},
	"status": {"replicas": 5, "readyReplicas": 3, "updatedReplicas": 5, "availableReplicas": 3}
}`

const pending = `{
	"apiVersion": "v1", "kind": "Pod",
	"metadata": {"name": "order-6d5f-1", "namespace": "spillway", "creationTimestamp": "1999-12-31T23:59:30Z"},
	"spec": {"containers": [{"name": "service"}]},
	"status": {"phase": "Pending"}
}`

const leaving = `{
	"apiVersion": "v1", "kind": "Pod",
	"metadata": {"name": "order-6d5f-2", "namespace": "spillway", "creationTimestamp": "1999-12-31T23:50:00Z",
		"deletionTimestamp": "2000-01-01T00:00:20Z"},
	"spec": {"nodeName": "node-1", "containers": [{"name": "service"}]},
	"status": {"phase": "Running", "podIP": "127.0.0.1", "containerStatuses": [{"name": "service", "ready": true, "restartCount": 1, "state": {"running": {}}}]}
}`

const node = `{
	"apiVersion": "v1", "kind": "Node",
	"metadata": {"name": "node-1", "creationTimestamp": "1999-12-31T23:50:00Z"},
	"spec": {"unschedulable": true},
	"status": {"conditions": [{"type": "Ready", "status": "True"}]}
}`

func TestGet(t *testing.T) {
	for name, c := range map[string]struct {
		objects []string
		wide    bool
	}{
		"hpa":        {objects: []string{cpu, pressure}},
		"deployment": {objects: []string{deployment}},
		"pods":       {objects: []string{pending, leaving}},
		"pods-wide":  {objects: []string{pending, leaving}, wide: true},
		"node":       {objects: []string{node}},
		"nothing":    {},
	} {
		t.Run(name, func(t *testing.T) {
			// In a bubble it is midnight of the year 2000, so ages are always the same.
			synctest.Test(t, func(t *testing.T) {
				var out bytes.Buffer
				if err := printer.Get(&out, c.objects, c.wide); err != nil {
					t.Fatal(err)
				}
				golden(t, "get-"+name+".txt", out.Bytes())
			})
		})
	}
}

func TestGetOfWhatIsNotAnObject(t *testing.T) {
	for _, text := range []string{`{`, `{"apiVersion": "v1", "kind": "Podd"}`} {
		if err := printer.Get(&bytes.Buffer{}, []string{text}, false); err == nil {
			t.Errorf("%s: no error", text)
		}
	}
}

func TestDescribe(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		event := func(before time.Duration, kind, name, level, reason, message string) *autoscalerv1.StreamEventsResponse {
			return &autoscalerv1.StreamEventsResponse{
				At: timestamppb.New(time.Now().Add(-before)), Type: level, Reason: reason, Kind: kind, Name: name, Message: message,
			}
		}
		const hpa = "HorizontalPodAutoscaler"
		var out bytes.Buffer
		if err := printer.Describe(&out, cpu, []*autoscalerv1.StreamEventsResponse{
			event(3*time.Minute, hpa, "order", "Warning", "FailedGetResourceMetric", "no metrics returned from resource metrics API"),
			event(2*time.Minute, hpa, "order", "Warning", "FailedGetResourceMetric", "no metrics returned from resource metrics API"),
			event(time.Minute, hpa, "order", "Normal", "SuccessfulRescale", "New size: 5; reason: cpu resource utilization (percentage of request) above target"),
			event(time.Minute, hpa, "payment", "Normal", "SuccessfulRescale", "of another"),
			event(time.Minute, "Pod", "order", "Normal", "Killing", "of another kind"),
		}); err != nil {
			t.Fatal(err)
		}
		golden(t, "describe.txt", out.Bytes())
		if strings.Contains(out.String(), "of another") {
			t.Error("events of other objects are told")
		}
	})
}

func golden(t *testing.T, name string, got []byte) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.MkdirAll("testdata", 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("%s\n got:\n%s\nwant:\n%s", path, got, want)
	}
}
