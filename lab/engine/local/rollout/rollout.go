// Package rollout decides how many replicas the old and the new ReplicaSets of a
// Deployment get next. It is pure: it reads no clock and moves nothing.
package rollout

import (
	"fmt"

	appsv1 "k8s.io/api/apps/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
)

// Set is one ReplicaSet: how many of its pods are not on their way out, and how
// many of those are available (ready for at least minReadySeconds).
type Set struct{ Replicas, Available int }

// Budget bounds a rolling update, in pods.
type Budget struct {
	// Surge is how many pods may be there above the wanted number.
	Surge int
	// Unavailable is how many of the wanted number may be missing.
	Unavailable int
}

// Resolve reads a Deployment's rolling update settings for a number of replicas.
// Percentages round up for the surge and down for the unavailable; both default
// to 25 %; where both come to nothing one pod may be unavailable, or nothing
// could ever move.
func Resolve(r *appsv1.RollingUpdateDeployment, replicas int) (Budget, error) {
	surge, unavailable := intstr.FromString("25%"), intstr.FromString("25%")
	if r != nil && r.MaxSurge != nil {
		surge = *r.MaxSurge
	}
	if r != nil && r.MaxUnavailable != nil {
		unavailable = *r.MaxUnavailable
	}
	var b Budget
	var err error
	if b.Surge, err = intstr.GetScaledValueFromIntOrPercent(&surge, replicas, true); err != nil || b.Surge < 0 {
		return Budget{}, fmt.Errorf("maxSurge %s: give a number of pods or a percentage", surge.String())
	}
	if b.Unavailable, err = intstr.GetScaledValueFromIntOrPercent(&unavailable, replicas, false); err != nil || b.Unavailable < 0 {
		return Budget{}, fmt.Errorf("maxUnavailable %s: give a number of pods or a percentage", unavailable.String())
	}
	if b.Surge == 0 && b.Unavailable == 0 {
		b.Unavailable = 1
	}
	return b, nil
}

// Rolling takes one step of a rolling update, as the Deployment controller of
// Kubernetes does: the new set grows as far as the surge allows, then old sets
// (given oldest first) shrink, pods that serve nobody first and the rest only
// while enough pods are available. It returns the sizes wanted now; applying it
// until nothing changes reaches wanted new pods and no old ones.
func Rolling(wanted int, b Budget, current Set, old []Set) (size int, oldSizes []int) {
	total := current.Replicas
	available := current.Available
	for _, s := range old {
		oldSizes = append(oldSizes, s.Replicas)
		total += s.Replicas
		available += s.Available
	}

	size = min(current.Replicas, wanted)
	if grow := min(wanted-current.Replicas, wanted+b.Surge-total); grow > 0 {
		size += grow
		// The old ones shrink in the next step: Kubernetes, too, moves one side
		// at a time.
		return size, oldSizes
	}

	minAvailable := wanted - b.Unavailable
	shrink := total - minAvailable - (size - min(current.Available, size))
	for i, s := range old {
		n := min(shrink, s.Replicas-s.Available)
		if n > 0 {
			oldSizes[i] -= n
			shrink -= n
		}
	}
	spare := min(shrink, available-minAvailable)
	for i := range old {
		n := min(spare, oldSizes[i])
		if n > 0 {
			oldSizes[i] -= n
			spare -= n
		}
	}
	return size, oldSizes
}

// Recreate takes one step of a Recreate update: every old pod must have ended,
// not just be on its way out, before the first new one starts.
func Recreate(wanted int, oldPodsLeft int, old []Set) (size int, oldSizes []int) {
	if oldPodsLeft > 0 {
		return 0, make([]int, len(old))
	}
	return wanted, make([]int, len(old))
}
