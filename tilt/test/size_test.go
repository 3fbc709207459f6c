package test

import (
	"path/filepath"
	"testing"

	"k8s.io/apimachinery/pkg/api/resource"
)

// What a node takes for itself: kubelet, containerd, kube-proxy, CoreDNS, the
// network, and on the control plane's node etcd, API server, controllers and
// scheduler. A cluster of those three kinds of node idles at about this.
const ownMemory = 2 << 30

// The laptop that each set is said to fit. A quarter of it is left to everything
// else that runs there.
var laptops = map[string]int64{"lite": 8 << 30, "full": 16 << 30}

// sum adds up a resource over all replicas. DaemonSets run on the three nodes that
// `make kind` makes.
func sum(t *testing.T, objects []*Object, kind, what string) (total resource.Quantity) {
	t.Helper()
	for _, o := range objects {
		replicas := int64(1)
		if n, ok := at(o.Fields, "spec", "replicas").(float64); ok {
			replicas = int64(n)
		}
		if o.Kind == "DaemonSet" {
			replicas = 3
		}
		containers, _ := at(o.pod(), "spec", "containers").([]any)
		for _, c := range containers {
			text, _ := at(c, "resources", kind, what).(string)
			if n, ok := at(c, "resources", kind, what).(float64); ok {
				text = resource.NewQuantity(int64(n), resource.DecimalSI).String()
			}
			if text == "" {
				t.Errorf("%s: a container without %s of %s", o, kind, what)
				continue
			}
			q, err := resource.ParseQuantity(text)
			if err != nil {
				t.Errorf("%s: %v", o, err)
				continue
			}
			q.Mul(replicas)
			total.Add(q)
		}
	}
	return total
}

func TestWhatIsAskedForFitsALaptop(t *testing.T) {
	dir, manifests := root(t), NewManifests()
	for set, memory := range laptops {
		t.Run(set, func(t *testing.T) {
			tilt, err := evaluate(dir, manifests, "--observability="+set)
			if err != nil {
				t.Fatal(err)
			}
			asked := sum(t, tilt.Objects, "requests", "memory")
			limit := sum(t, tilt.Objects, "limits", "memory")
			cpu := sum(t, tilt.Objects, "requests", "cpu")
			t.Logf("%s: requests %s of memory and %s of CPU, limits %s of memory", set, mib(asked), cpu.String(), mib(limit))
			if asked.Value()+ownMemory > memory*3/4 {
				t.Errorf("%s asks for %s, with the nodes' own %d MiB that is more than three quarters of %d MiB", set, mib(asked), ownMemory>>20, memory>>20)
			}
			// Not every container takes all it may at the same time: a quarter may be
			// promised twice.
			if limit.Value()+ownMemory > memory*5/4 {
				t.Errorf("%s may take %s, with the nodes' own %d MiB that is more than five quarters of %d MiB", set, mib(limit), ownMemory>>20, memory>>20)
			}
			if asked.IsZero() || cpu.Value() > 8 {
				t.Errorf("%s asks for %s of CPU", set, cpu.String())
			}
		})
	}
}

func mib(q resource.Quantity) string {
	return resource.NewQuantity(q.Value()>>20<<20, resource.BinarySI).String()
}

// What a run may grow to: every autoscaler at its maximum at once asks for more
// than a laptop has, and the scheduler says no to some of it. The sets must leave
// room for the mesh to grow to twice its size.
func TestThereIsRoomToScale(t *testing.T) {
	for set, memory := range laptops {
		var total int64
		for _, dir := range []string{"overlays/kind", "observability/" + set} {
			text, err := Render(filepath.Join(repository, "k8s", dir))
			if err != nil {
				t.Fatal(err)
			}
			objects, err := Parse(text)
			if err != nil {
				t.Fatal(err)
			}
			asked := sum(t, objects, "requests", "memory")
			if dir == "overlays/kind" {
				asked.Mul(2)
			}
			total += asked.Value()
		}
		if total+ownMemory > memory*3/4 {
			t.Errorf("%s: with twice the mesh %d MiB are asked for, of %d MiB", set, (total+ownMemory)>>20, memory>>20)
		}
	}
}
