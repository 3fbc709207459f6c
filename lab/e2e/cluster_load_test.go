//go:build cluster

package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"spillway.dev/lab/load"
)

// longest is for how long load is offered when a test does not end it.
const longest = 25 * time.Minute

// peoplesPatience is how long people wait in these tests: what is lost must not be what a
// machine was too busy to answer in time. With the usual 2 s the generator alone,
// 0.8 s late beside pods that start, took a share of all journeys.
const peoplesPatience = 30 * time.Second

// offered is load from a pod of the cluster on the gateway's Service, the way
// that people come.
type offered struct {
	*cluster
	pod string
}

// offerLoad starts load and returns when journeys have begun. The same seed
// gives the same people.
func (c *cluster) offerLoad(name string, rate float64, seed int) *offered {
	c.Helper()
	o := &offered{cluster: c, pod: "load-" + name}
	_, err := c.client.CoreV1().Pods(meshNamespace).Create(c.Context(), &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: o.pod, Labels: map[string]string{"app.kubernetes.io/name": "load"}},
		Spec: corev1.PodSpec{
			RestartPolicy:                corev1.RestartPolicyNever,
			AutomountServiceAccountToken: new(false),
			SecurityContext: &corev1.PodSecurityContext{
				RunAsNonRoot: new(true), RunAsUser: new(int64(65532)),
				SeccompProfile: &corev1.SeccompProfile{Type: corev1.SeccompProfileTypeRuntimeDefault},
			},
			Containers: []corev1.Container{{
				Name:  "load",
				Image: "spillway/lab:0.1.0",
				Args: []string{"load", "--target", "gateway:9000", "--rate", fmt.Sprint(rate), "--for", longest.String(),
					"--browse-deadline", peoplesPatience.String(), "--buy-deadline", peoplesPatience.String(), "--seed", fmt.Sprint(seed), "--json"},
				SecurityContext: &corev1.SecurityContext{
					AllowPrivilegeEscalation: new(false), ReadOnlyRootFilesystem: new(true),
					Capabilities: &corev1.Capabilities{Drop: []corev1.Capability{"ALL"}},
				},
			}},
		},
	}, metav1.CreateOptions{})
	if err != nil {
		c.Fatal(err)
	}
	c.eventually("journeys begin", func(ctx context.Context) error {
		text, err := c.logs(ctx, meshNamespace, o.pod)
		if err == nil && len(bytes.TrimSpace(text)) == 0 {
			err = fmt.Errorf("%s has said nothing yet", o.pod)
		}
		return err
	})
	return o
}

// end has the load end and returns its report. The pod must stay until its log
// is read, so it is not deleted but given a deadline that has passed: the kubelet
// ends it in order, and the load reports as it does after Ctrl-C.
func (o *offered) end() *load.Report {
	o.Helper()
	pods := o.client.CoreV1().Pods(meshNamespace)
	pod, err := pods.Get(o.Context(), o.pod, metav1.GetOptions{})
	if err != nil {
		o.Fatal(err)
	}
	if pod.Status.Phase != corev1.PodRunning {
		o.Errorf("%s has ended by itself (%s): nothing is known of what came after", o.pod, pod.Status.Phase)
	}
	if _, err := pods.Patch(o.Context(), o.pod, types.MergePatchType, []byte(`{"spec":{"activeDeadlineSeconds":1}}`), metav1.PatchOptions{}); err != nil {
		o.Fatal(err)
	}
	report := new(load.Report)
	o.eventually("the load reports", func(ctx context.Context) error {
		pod, err := pods.Get(ctx, o.pod, metav1.GetOptions{})
		if err != nil {
			return err
		}
		if pod.Status.Phase != corev1.PodFailed && pod.Status.Phase != corev1.PodSucceeded {
			return fmt.Errorf("%s: %s", o.pod, pod.Status.Phase)
		}
		text, err := o.logs(ctx, meshNamespace, o.pod)
		if err != nil {
			return err
		}
		// A line of progress a second comes first.
		_, answer, found := bytes.Cut(text, []byte("\n{"))
		if !found {
			return fmt.Errorf("%s printed no report:\n%s", o.pod, text[max(0, len(text)-2000):])
		}
		return json.Unmarshal(append([]byte("{"), answer...), report)
	})
	if err := pods.Delete(o.Context(), o.pod, metav1.DeleteOptions{GracePeriodSeconds: new(int64(0))}); err != nil {
		o.Fatal(err)
	}
	o.Logf("offered %d in %.0f s (%.1f/s), good %d, refused by rule %v, late %d, shed %v, errors %v, p50 %.0f p99 %.0f p99.9 %.0f ms, lag p99 %.2f ms",
		report.Offered, report.ElapsedS, report.OfferedPerS, report.Good, report.Refused, report.Late, report.Shed, report.Errors,
		report.Latency.P50, report.Latency.P99, report.Latency.P999, report.Lag.P99)
	return report
}

// nothingLost fails the test when a journey got no answer, or a refusal.
func (c *cluster) nothingLost(r *load.Report) {
	c.Helper()
	if len(r.Errors) != 0 || len(r.Shed) != 0 || r.Good == 0 || r.Purchases == 0 {
		c.Errorf("errors %v, shed %v, %d good, %d purchases", r.Errors, r.Shed, r.Good, r.Purchases)
	}
}
