package printer

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	autoscalingv2 "k8s.io/api/autoscaling/v2"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/rest"
	"k8s.io/kubectl/pkg/describe"

	autoscalerv1 "spillway.dev/proto/gen/spillway/autoscaler/v1"
)

// Describe prints an HPA as `kubectl describe hpa` does. hpa is a JSON document,
// as AutoscalerService.ListObjects returns it, and events are those that
// StreamEvents tells; those of other objects are left out, and the same one told
// again is counted as Kubernetes counts it.
func Describe(w io.Writer, hpa string, events []*autoscalerv1.StreamEventsResponse) error {
	var object autoscalingv2.HorizontalPodAutoscaler
	if err := json.Unmarshal([]byte(hpa), &object); err != nil {
		return fmt.Errorf("describe an HPA: %w", err)
	}
	served := server{
		"/horizontalpodautoscalers/" + object.Name: &object,
		"/events": &corev1.EventList{
			TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "EventList"},
			Items:    merge(&object, events),
		},
	}
	kind := autoscalingv2.SchemeGroupVersion.WithKind("HorizontalPodAutoscaler").GroupKind()
	describer, ok := describe.DescriberFor(kind, &rest.Config{Host: "http://mesh", Transport: served})
	if !ok {
		return errors.New("describe an HPA: kubectl's describer is not there")
	}
	text, err := describer.Describe(object.Namespace, object.Name, describe.DescriberSettings{ShowEvents: true})
	if err != nil {
		return fmt.Errorf("describe HPA %s: %w", object.Name, err)
	}
	_, err = io.WriteString(w, text)
	return err
}

// merge makes one event of those that say the same.
func merge(object *autoscalingv2.HorizontalPodAutoscaler, events []*autoscalerv1.StreamEventsResponse) []corev1.Event {
	type same struct{ kind, reason, message string }
	at := map[same]int{}
	var list []corev1.Event
	for _, e := range events {
		if e.GetName() != object.Name || e.GetKind() != "HorizontalPodAutoscaler" {
			continue
		}
		k := same{e.GetType(), e.GetReason(), e.GetMessage()}
		i, told := at[k]
		if !told {
			i = len(list)
			at[k] = i
			list = append(list, corev1.Event{
				Type: e.GetType(), Reason: e.GetReason(), Message: e.GetMessage(),
				Source:         corev1.EventSource{Component: "horizontal-pod-autoscaler"},
				FirstTimestamp: metav1.NewTime(e.GetAt().AsTime()),
			})
		}
		list[i].Count++
		list[i].LastTimestamp = metav1.NewTime(e.GetAt().AsTime())
	}
	return list
}

// server answers kubectl's requests out of memory, by the end of their path.
type server map[string]runtime.Object

func (s server) RoundTrip(r *http.Request) (*http.Response, error) {
	for path, object := range s {
		if !strings.HasSuffix(r.URL.Path, path) {
			continue
		}
		body, err := json.Marshal(object)
		if err != nil {
			return nil, err
		}
		return response(r, http.StatusOK, body), nil
	}
	return response(r, http.StatusNotFound, nil), nil
}

func response(r *http.Request, code int, body []byte) *http.Response {
	return &http.Response{
		StatusCode: code,
		Status:     http.StatusText(code),
		Proto:      "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Header:        http.Header{"Content-Type": {runtime.ContentTypeJSON}, "Date": {time.Now().UTC().Format(http.TimeFormat)}},
		Body:          io.NopCloser(bytes.NewReader(body)),
		ContentLength: int64(len(body)),
		Request:       r,
	}
}
