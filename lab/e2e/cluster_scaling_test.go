//go:build cluster

package e2e

import (
	"context"
	"fmt"
	"slices"
	"strings"

	autoscalingv2 "k8s.io/api/autoscaling/v2"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// scaled is a Deployment that an autoscaler of the test steers, each by another
// kind of metric. Its target is so low that a load which two cores carry beside
// a cluster is several times it.
type scaled struct {
	name   string
	metric autoscalingv2.MetricSpec
	// answers is where the API answers for the metric.
	answers string
}

func kindsOfMetric() []scaled {
	return []scaled{
		{
			name: "gateway",
			metric: autoscalingv2.MetricSpec{Type: autoscalingv2.ResourceMetricSourceType, Resource: &autoscalingv2.ResourceMetricSource{
				Name:   corev1.ResourceCPU,
				Target: autoscalingv2.MetricTarget{Type: autoscalingv2.AverageValueMetricType, AverageValue: new(resource.MustParse("25m"))},
			}},
			answers: "/apis/metrics.k8s.io/v1beta1/namespaces/" + meshNamespace + "/pods?labelSelector=app.kubernetes.io/name=gateway",
		},
		{
			name: "session",
			metric: autoscalingv2.MetricSpec{Type: autoscalingv2.PodsMetricSourceType, Pods: &autoscalingv2.PodsMetricSource{
				Metric: autoscalingv2.MetricIdentifier{Name: "capacity_busy_slots"},
				Target: autoscalingv2.MetricTarget{Type: autoscalingv2.AverageValueMetricType, AverageValue: new(resource.MustParse("200m"))},
			}},
			answers: "/apis/custom.metrics.k8s.io/v1beta2/namespaces/" + meshNamespace + "/pods/*/capacity_busy_slots?labelSelector=app.kubernetes.io/name=session",
		},
		{
			name: "catalog",
			metric: autoscalingv2.MetricSpec{Type: autoscalingv2.ExternalMetricSourceType, External: &autoscalingv2.ExternalMetricSource{
				Metric: autoscalingv2.MetricIdentifier{Name: "service_pressure", Selector: &metav1.LabelSelector{MatchLabels: map[string]string{"service": "catalog"}}},
				Target: autoscalingv2.MetricTarget{Type: autoscalingv2.ValueMetricType, Value: new(resource.MustParse("50m"))},
			}},
			answers: "/apis/external.metrics.k8s.io/v1beta1/namespaces/" + meshNamespace + "/service_pressure?labelSelector=service=catalog",
		},
	}
}

// least and most replicas of what is scaled.
const least, most = 2, 4

func autoscale(c *cluster) {
	hpas := c.client.AutoscalingV2().HorizontalPodAutoscalers(meshNamespace)
	// Two autoscalers of one Deployment would both refuse to work.
	if err := hpas.DeleteCollection(c.Context(), metav1.DeleteOptions{}, metav1.ListOptions{}); err != nil {
		c.Fatal(err)
	}
	all := kindsOfMetric()
	for _, s := range all {
		c.scaleTo(s.name, least)
		c.eventually("the API answers for the metric of "+s.name, func(ctx context.Context) error {
			text, err := c.client.CoreV1().RESTClient().Get().RequestURI(s.answers).DoRaw(ctx)
			if err == nil && !strings.Contains(string(text), `"metadata":{"name"`) && !strings.Contains(string(text), `"value"`) {
				err = fmt.Errorf("no value: %s", text)
			}
			return err
		})
	}
	for _, s := range all {
		_, err := hpas.Create(c.Context(), &autoscalingv2.HorizontalPodAutoscaler{
			ObjectMeta: metav1.ObjectMeta{Name: "test-" + s.name},
			Spec: autoscalingv2.HorizontalPodAutoscalerSpec{
				ScaleTargetRef: autoscalingv2.CrossVersionObjectReference{APIVersion: "apps/v1", Kind: "Deployment", Name: s.name},
				MinReplicas:    new(int32(least)), MaxReplicas: most,
				Metrics: []autoscalingv2.MetricSpec{s.metric},
				Behavior: &autoscalingv2.HorizontalPodAutoscalerBehavior{
					ScaleDown: &autoscalingv2.HPAScalingRules{StabilizationWindowSeconds: new(int32(15))},
				},
			},
		}, metav1.CreateOptions{})
		if err != nil {
			c.Fatal(err)
		}
	}
	// A test that fails here must not leave them to steer what comes next.
	defer func() {
		if err := hpas.DeleteCollection(context.WithoutCancel(c.Context()), metav1.DeleteOptions{}, metav1.ListOptions{}); err != nil {
			c.Error(err)
		}
	}()
	for _, s := range all {
		c.eventually("the autoscaler of "+s.name+" reads its metric", func(ctx context.Context) error {
			hpa, err := hpas.Get(ctx, "test-"+s.name, metav1.GetOptions{})
			if err != nil {
				return err
			}
			return reads(hpa)
		})
	}

	load := c.offerLoad("scaling", 40, 2)
	c.eventually("every autoscaler adds replicas, which become ready", func(ctx context.Context) error {
		for _, s := range all {
			d, err := c.deployment(ctx, s.name)
			if err != nil {
				return err
			}
			if d.Status.AvailableReplicas <= least {
				return fmt.Errorf("%s has %d, %d wanted", s.name, d.Status.AvailableReplicas, *d.Spec.Replicas)
			}
		}
		return nil
	})
	c.nothingLost(load.end())
	c.eventually("every autoscaler takes its replicas away again", func(ctx context.Context) error {
		for _, s := range all {
			d, err := c.deployment(ctx, s.name)
			if err != nil {
				return err
			}
			if *d.Spec.Replicas != least || d.Status.Replicas != least {
				hpa, err := hpas.Get(ctx, "test-"+s.name, metav1.GetOptions{})
				if err != nil {
					return err
				}
				return fmt.Errorf("%s has %d of %d: it reads %s", s.name, d.Status.Replicas, *d.Spec.Replicas, current(hpa))
			}
		}
		return nil
	})
	for _, s := range all {
		c.settle(s.name)
		hpa, err := hpas.Get(c.Context(), "test-"+s.name, metav1.GetOptions{})
		if err != nil {
			c.Fatal(err)
		}
		if err := reads(hpa); err != nil {
			c.Error(err)
		}
	}
	c.noFailedMetrics()
}

// reads tells what an autoscaler lacks to know its metric.
func reads(hpa *autoscalingv2.HorizontalPodAutoscaler) error {
	i := slices.IndexFunc(hpa.Status.Conditions, func(c autoscalingv2.HorizontalPodAutoscalerCondition) bool {
		return c.Type == autoscalingv2.ScalingActive
	})
	switch {
	case i < 0:
		return fmt.Errorf("%s has not looked yet", hpa.Name)
	case hpa.Status.Conditions[i].Status != corev1.ConditionTrue:
		return fmt.Errorf("%s: %s: %s", hpa.Name, hpa.Status.Conditions[i].Reason, hpa.Status.Conditions[i].Message)
	case current(hpa) == "":
		return fmt.Errorf("%s has no current value", hpa.Name)
	}
	return nil
}

// current is what an autoscaler last read, as a person would write it.
func current(hpa *autoscalingv2.HorizontalPodAutoscaler) string {
	var all []string
	for _, m := range hpa.Status.CurrentMetrics {
		switch {
		case m.Resource != nil && m.Resource.Current.AverageValue != nil:
			all = append(all, fmt.Sprintf("%s %s", m.Resource.Name, m.Resource.Current.AverageValue))
		case m.Pods != nil && m.Pods.Current.AverageValue != nil:
			all = append(all, m.Pods.Metric.Name+" "+m.Pods.Current.AverageValue.String())
		case m.External != nil && m.External.Current.Value != nil:
			all = append(all, m.External.Metric.Name+" "+m.External.Current.Value.String())
		}
	}
	return strings.Join(all, ", ")
}

// noFailedMetrics fails the test when an autoscaler of it could not read a
// metric, even once.
func (c *cluster) noFailedMetrics() {
	c.Helper()
	events, err := c.client.CoreV1().Events(meshNamespace).List(c.Context(), metav1.ListOptions{FieldSelector: "involvedObject.kind=HorizontalPodAutoscaler"})
	if err != nil {
		c.Fatal(err)
	}
	rescaled := map[string]int{}
	for _, e := range events.Items {
		if !strings.HasPrefix(e.InvolvedObject.Name, "test-") {
			continue
		}
		if strings.HasPrefix(e.Reason, "Failed") {
			c.Errorf("%s: %s (%d times): %s", e.InvolvedObject.Name, e.Reason, e.Count, e.Message)
		}
		if e.Reason == "SuccessfulRescale" {
			rescaled[e.InvolvedObject.Name]++
			c.Logf("%s: %s", e.InvolvedObject.Name, e.Message)
		}
	}
	for _, s := range kindsOfMetric() {
		if rescaled["test-"+s.name] < 2 {
			c.Errorf("test-%s rescaled %d times: not up and down", s.name, rescaled["test-"+s.name])
		}
	}
}
