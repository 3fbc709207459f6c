package autoscaler

import (
	"context"
	"fmt"
	"time"

	autoscalingv1 "k8s.io/api/autoscaling/v1"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	autoscalingclient "k8s.io/client-go/kubernetes/typed/autoscaling/v2"
	coreclient "k8s.io/client-go/kubernetes/typed/core/v1"
	autoscalinglisters "k8s.io/client-go/listers/autoscaling/v2"
	corelisters "k8s.io/client-go/listers/core/v1"
	"k8s.io/client-go/scale"
	"k8s.io/client-go/tools/cache"
)

// The types of this file are the part of the Kubernetes API that the controller
// calls. Each embeds the whole interface, which stays nil: a call that the
// controller of a later version makes in addition stops the tests.

// scales is the scale subresource of Deployments.
type scales struct{ a *Autoscaler }

func (s scales) Scales(namespace string) scale.ScaleInterface {
	return scaleClient{a: s.a, namespace: namespace}
}

type scaleClient struct {
	scale.ScaleInterface
	a         *Autoscaler
	namespace string
}

func (c scaleClient) Get(_ context.Context, resource schema.GroupResource, name string, _ metav1.GetOptions) (*autoscalingv1.Scale, error) {
	d := c.a.mirror.deployment(c.namespace + "/" + name)
	if d == nil || resource.Resource != "deployments" {
		return nil, apierrors.NewNotFound(resource, name)
	}
	selector, err := metav1.LabelSelectorAsSelector(d.Spec.Selector)
	if err != nil {
		return nil, fmt.Errorf("selector of Deployment %s: %w", name, err)
	}
	replicas := int32(1) // what Kubernetes takes where none is said
	if d.Spec.Replicas != nil {
		replicas = *d.Spec.Replicas
	}
	return &autoscalingv1.Scale{
		ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: c.namespace},
		Spec:       autoscalingv1.ScaleSpec{Replicas: replicas},
		Status:     autoscalingv1.ScaleStatus{Replicas: d.Status.Replicas, Selector: selector.String()},
	}, nil
}

func (c scaleClient) Update(_ context.Context, _ schema.GroupResource, s *autoscalingv1.Scale, _ metav1.UpdateOptions) (*autoscalingv1.Scale, error) {
	if _, err := c.a.cluster.SetReplicas(s.Name, int(s.Spec.Replicas)); err != nil {
		return nil, err
	}
	return s, nil
}

// hpaClients writes the status of HPAs.
type hpaClients struct{ mirror *mirror }

func (c hpaClients) HorizontalPodAutoscalers(string) autoscalingclient.HorizontalPodAutoscalerInterface {
	return hpaClient{mirror: c.mirror}
}

type hpaClient struct {
	autoscalingclient.HorizontalPodAutoscalerInterface
	mirror *mirror
}

func (c hpaClient) UpdateStatus(_ context.Context, hpa *autoscalingv2.HorizontalPodAutoscaler, _ metav1.UpdateOptions) (*autoscalingv2.HorizontalPodAutoscaler, error) {
	updated := c.mirror.setStatus(key(hpa), hpa.Status)
	if updated == nil {
		return nil, apierrors.NewNotFound(autoscalingv2.Resource("horizontalpodautoscalers"), hpa.Name)
	}
	return updated, nil
}

// hpaInformer lets the controller list HPAs and hear of changes.
type hpaInformer struct{ shelf *shelf }

func (i hpaInformer) Informer() cache.SharedIndexInformer { return informer{shelf: i.shelf} }

func (i hpaInformer) Lister() autoscalinglisters.HorizontalPodAutoscalerLister {
	return autoscalinglisters.NewHorizontalPodAutoscalerLister(i.shelf)
}

// podInformer lets the controller list pods.
type podInformer struct{ shelf *shelf }

func (i podInformer) Informer() cache.SharedIndexInformer { return informer{shelf: i.shelf} }

func (i podInformer) Lister() corelisters.PodLister { return corelisters.NewPodLister(i.shelf) }

// informer is a shelf as the controller sees it: always in step, because New
// fills it.
type informer struct {
	cache.SharedIndexInformer
	shelf *shelf
}

func (i informer) HasSynced() bool { return true }

// AddEventHandlerWithResyncPeriod needs no resync: the controller queues an HPA
// again after each look at it.
func (i informer) AddEventHandlerWithResyncPeriod(h cache.ResourceEventHandler, _ time.Duration) (cache.ResourceEventHandlerRegistration, error) {
	i.shelf.listen(h)
	return nil, nil
}

// discardEvents is where Kubernetes' events end up merged and limited. The
// journal has them all, see tap.
type discardEvents struct{ coreclient.EventInterface }

func (d discardEvents) Events(string) coreclient.EventInterface { return d }

func (discardEvents) CreateWithEventNamespace(e *corev1.Event) (*corev1.Event, error) { return e, nil }

func (discardEvents) UpdateWithEventNamespace(e *corev1.Event) (*corev1.Event, error) { return e, nil }

func (discardEvents) PatchWithEventNamespace(e *corev1.Event, _ []byte) (*corev1.Event, error) {
	return e, nil
}
