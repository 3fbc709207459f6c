package autoscaler

import (
	"fmt"
	"math"
	"strconv"
	"time"

	autoscalingv2 "k8s.io/api/autoscaling/v2"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/kubernetes/pkg/apis/autoscaling"
	internalv2 "k8s.io/kubernetes/pkg/apis/autoscaling/v2"
	"k8s.io/kubernetes/pkg/apis/autoscaling/validation"
)

// timelapseAnnotation says on an HPA by what its durations were divided.
const timelapseAnnotation = "spillway.dev/timelapse"

// Check says what Kubernetes' API server would refuse about an HPA. It does
// not change it.
func Check(hpa *autoscalingv2.HorizontalPodAutoscaler) error {
	hpa = admitted(hpa)
	var internal autoscaling.HorizontalPodAutoscaler
	if err := internalv2.Convert_v2_HorizontalPodAutoscaler_To_autoscaling_HorizontalPodAutoscaler(hpa, &internal, nil); err != nil {
		return fmt.Errorf("HorizontalPodAutoscaler %s: %w", hpa.Name, err)
	}
	errs := validation.ValidateHorizontalPodAutoscaler(&internal, validation.HorizontalPodAutoscalerSpecValidationOptions{
		MinReplicasLowerBound:          1,
		ObjectMetricsValidationOptions: validation.CrossVersionObjectReferenceValidationOptions{AllowEmptyAPIGroup: true},
	})
	if err := errs.ToAggregate(); err != nil {
		return fmt.Errorf("HorizontalPodAutoscaler %s: %w", hpa.Name, err)
	}
	return nil
}

// admitted is a copy with everything filled in that the API server fills in.
func admitted(hpa *autoscalingv2.HorizontalPodAutoscaler) *autoscalingv2.HorizontalPodAutoscaler {
	hpa = hpa.DeepCopy()
	hpa.TypeMeta = metav1.TypeMeta{APIVersion: autoscalingv2.SchemeGroupVersion.String(), Kind: "HorizontalPodAutoscaler"}
	if hpa.Namespace == "" {
		hpa.Namespace = Namespace
	}
	internalv2.SetDefaults_HorizontalPodAutoscaler(hpa)
	return hpa
}

// prepare does to an HPA what the API server does on its way in: defaults and
// validation. It also divides its durations by the time-lapse.
func (a *Autoscaler) prepare(hpa *autoscalingv2.HorizontalPodAutoscaler) (*autoscalingv2.HorizontalPodAutoscaler, error) {
	if err := Check(hpa); err != nil {
		a.config.Log.Error("an HPA is left out", "err", err)
		a.events.Add(Event{
			At: time.Now(), Type: "Warning", Reason: "Invalid",
			Kind: "HorizontalPodAutoscaler", Name: hpa.Name, Message: err.Error(),
		})
		return nil, err
	}
	hpa = admitted(hpa)
	if a.config.Timelapse != 1 {
		for _, note := range compress(hpa, a.config.Timelapse) {
			a.config.Log.Warn("a duration of an HPA was rounded to whole seconds", "hpa", hpa.Name, "what", note)
			a.events.Add(Event{
				At: time.Now(), Type: "Normal", Reason: "DurationRounded",
				Kind: "HorizontalPodAutoscaler", Name: hpa.Name, Message: note,
			})
		}
	}
	return hpa, nil
}

// compress divides the durations of an HPA's behaviour. The API has whole
// seconds: each is rounded to the nearest, and a period is at least one. What
// was rounded is told.
//
// Half a second is rounded down: a period of 15 s at tenfold time-lapse would
// else outlast the sync of 1.5 s that it equals, and every second one would
// pass idle.
func compress(hpa *autoscalingv2.HorizontalPodAutoscaler, timelapse float64) (rounded []string) {
	if hpa.Annotations == nil {
		hpa.Annotations = map[string]string{}
	}
	hpa.Annotations[timelapseAnnotation] = strconv.FormatFloat(timelapse, 'f', -1, 64)
	divide := func(what string, seconds *int32, least int32) {
		exact := float64(*seconds) / timelapse
		whole := max(int32(math.Ceil(exact-0.5)), least)
		if float64(whole) != exact {
			rounded = append(rounded, fmt.Sprintf("%s: %d s divided by %v is %.2f s, taken as %d s", what, *seconds, timelapse, exact, whole))
		}
		*seconds = whole
	}
	rules := func(what string, r *autoscalingv2.HPAScalingRules) {
		if r == nil {
			return
		}
		if r.StabilizationWindowSeconds != nil {
			divide(what+".stabilizationWindowSeconds", r.StabilizationWindowSeconds, 0)
		}
		for i := range r.Policies {
			divide(fmt.Sprintf("%s.policies[%d].periodSeconds", what, i), &r.Policies[i].PeriodSeconds, 1)
		}
	}
	if b := hpa.Spec.Behavior; b != nil {
		rules("scaleUp", b.ScaleUp)
		rules("scaleDown", b.ScaleDown)
	}
	return rounded
}
