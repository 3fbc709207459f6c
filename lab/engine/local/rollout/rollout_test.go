package rollout

import (
	"slices"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
)

func TestResolve(t *testing.T) {
	for _, test := range []struct {
		surge, unavailable string
		replicas           int
		want               Budget
	}{
		{"", "", 4, Budget{1, 1}},
		{"", "", 1, Budget{1, 0}}, // 25 %: up to one, down to none
		{"", "", 10, Budget{3, 2}},
		{"1", "0", 5, Budget{1, 0}},
		{"0", "0", 5, Budget{0, 1}}, // nothing could move
		{"0", "10%", 5, Budget{0, 1}},
		{"30%", "0", 10, Budget{3, 0}},
		{"100%", "50%", 3, Budget{3, 1}},
		{"25%", "25%", 0, Budget{0, 1}},
	} {
		r := &appsv1.RollingUpdateDeployment{}
		if test.surge != "" {
			v := intstr.Parse(test.surge)
			r.MaxSurge = &v
		}
		if test.unavailable != "" {
			v := intstr.Parse(test.unavailable)
			r.MaxUnavailable = &v
		}
		if got, err := Resolve(r, test.replicas); err != nil || got != test.want {
			t.Errorf("maxSurge %q, maxUnavailable %q of %d: %+v, %v; want %+v", test.surge, test.unavailable, test.replicas, got, err, test.want)
		}
	}
	bad := intstr.FromString("many")
	if _, err := Resolve(&appsv1.RollingUpdateDeployment{MaxSurge: &bad}, 3); err == nil {
		t.Error("maxSurge many is no error")
	}
}

func TestRolling(t *testing.T) {
	for _, test := range []struct {
		name    string
		wanted  int
		budget  Budget
		current Set
		old     []Set
		size    int
		olds    []int
	}{
		{"first start", 3, Budget{1, 0}, Set{}, nil, 3, nil},
		{"nothing to do", 3, Budget{1, 0}, Set{3, 3}, nil, 3, nil},
		{"scale up", 5, Budget{1, 0}, Set{3, 3}, nil, 5, nil},
		{"scale down", 1, Budget{1, 0}, Set{3, 3}, nil, 1, nil},
		{"begin: one above", 3, Budget{1, 0}, Set{}, []Set{{3, 3}}, 1, []int{3}},
		{"the new one is not ready: wait", 3, Budget{1, 0}, Set{1, 0}, []Set{{3, 3}}, 1, []int{3}},
		{"the new one is ready: an old one goes", 3, Budget{1, 0}, Set{1, 1}, []Set{{3, 3}}, 1, []int{2}},
		{"then the next new one", 3, Budget{1, 0}, Set{1, 1}, []Set{{2, 2}}, 2, []int{2}},
		{"no surge: an old one goes first", 3, Budget{0, 1}, Set{}, []Set{{3, 3}}, 0, []int{2}},
		{"no surge: a new one takes its place", 3, Budget{0, 1}, Set{}, []Set{{2, 2}}, 1, []int{2}},
		{"old ones that serve nobody go at once", 3, Budget{1, 1}, Set{1, 0}, []Set{{3, 1}}, 1, []int{2}},
		{"the oldest set goes first", 4, Budget{1, 1}, Set{1, 1}, []Set{{2, 2}, {2, 2}}, 1, []int{0, 2}},
		{"all at once", 4, Budget{4, 0}, Set{4, 4}, []Set{{4, 4}}, 4, []int{0}},
		{"scaled to nothing half-way", 0, Budget{1, 0}, Set{1, 1}, []Set{{2, 2}}, 0, []int{0}},
	} {
		size, olds := Rolling(test.wanted, test.budget, test.current, test.old)
		if size != test.size || !slices.Equal(olds, test.olds) {
			t.Errorf("%s: %d %v, want %d %v", test.name, size, olds, test.size, test.olds)
		}
	}
}

// Whatever the numbers, an update reaches its end, and on the way there are never
// more pods than the surge allows nor fewer available ones than promised.
func TestRollingConverges(t *testing.T) {
	for wanted := range 8 {
		for surge := range 4 {
			for unavailable := range 4 {
				if surge == 0 && unavailable == 0 {
					continue
				}
				b := Budget{surge, unavailable}
				current, old := Set{}, []Set{{wanted, wanted}}
				for step := 0; current.Replicas != wanted || old[0].Replicas != 0; step++ {
					if step > 10*(wanted+1) {
						t.Fatalf("wanted %d, %+v: still %+v and %+v", wanted, b, current, old)
					}
					size, olds := Rolling(wanted, b, current, old)
					// New pods are not available yet; a deleted one was, if it could be.
					current = Set{size, min(current.Available, size)}
					old = []Set{{olds[0], min(old[0].Available, olds[0])}}
					if total := current.Replicas + old[0].Replicas; total > wanted+surge {
						t.Fatalf("wanted %d, %+v: %d pods", wanted, b, total)
					}
					if available := current.Available + old[0].Available; available < wanted-unavailable {
						t.Fatalf("wanted %d, %+v: %d available", wanted, b, available)
					}
					if size, olds := Rolling(wanted, b, current, old); size == current.Replicas && olds[0] == old[0].Replicas {
						current.Available = current.Replicas // time passes
					}
				}
			}
		}
	}
}

func TestRecreate(t *testing.T) {
	if size, old := Recreate(1, 1, []Set{{1, 1}}); size != 0 || !slices.Equal(old, []int{0}) {
		t.Errorf("while an old pod is there: %d %v", size, old)
	}
	if size, _ := Recreate(1, 1, nil); size != 0 {
		t.Errorf("while an old pod is on its way out: %d", size)
	}
	if size, _ := Recreate(1, 0, nil); size != 1 {
		t.Errorf("when all are gone: %d", size)
	}
}
