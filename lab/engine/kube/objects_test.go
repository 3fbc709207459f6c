package kube

import (
	"fmt"
	"slices"
	"strings"
	"testing"
)

const stream = `
apiVersion: autoscaling/v2
kind: HorizontalPodAutoscaler
metadata: {name: order, namespace: mesh}
spec: {scaleTargetRef: {kind: Deployment, name: order}}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: order, namespace: mesh}
---
# nothing
---
apiVersion: example.org/v1
kind: Curious
metadata: {name: one, namespace: mesh}
---
apiVersion: v1
kind: Namespace
metadata: {name: mesh}
`

func TestObjectsAreAppliedInTheOrderInWhichTheyNeedEachOther(t *testing.T) {
	objects, err := split([]byte(stream))
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, o := range objects {
		got = append(got, o.GetKind())
	}
	if want := []string{"Namespace", "Deployment", "Curious", "HorizontalPodAutoscaler"}; !slices.Equal(got, want) {
		t.Errorf("the order is %v, want %v", got, want)
	}
	if by := scaled(objects); !by["mesh/order"] || len(by) != 1 {
		t.Errorf("scaled by an autoscaler: %v, want mesh/order", by)
	}
	for _, bad := range []string{"kind: Pod\nmetadata: {name: a}", "apiVersion: v1\nkind: Pod", "apiVersion: v1\nkind: Pod\nkind: Pod\nmetadata: {name: a}"} {
		if _, err := split([]byte(bad)); err == nil {
			t.Errorf("%q is taken", bad)
		}
	}
}

func TestServicesAreTheDeploymentsOfTheMesh(t *testing.T) {
	more := stream + "---\napiVersion: apps/v1\nkind: Deployment\nmetadata: {name: conductor, namespace: mesh}\n" +
		"---\napiVersion: apps/v1\nkind: Deployment\nmetadata: {name: bank}\n" +
		"---\napiVersion: apps/v1\nkind: Deployment\nmetadata: {name: prometheus, namespace: observability}\n"
	all, byAutoscaler, err := Services([]byte(more), "mesh")
	if err != nil || !slices.Equal(all, []string{"bank", "order"}) || len(byAutoscaler) != 1 || !byAutoscaler["order"] {
		t.Errorf("services %v, scaled %v, %v", all, byAutoscaler, err)
	}
}

func TestWhatIsNotAppliedAnyMoreGoesLastFirst(t *testing.T) {
	ref := func(api, kind, name string) reference { return reference{api, kind, "mesh", name} }
	before := []reference{ref("v1", "Service", "a"), ref("apps/v1", "Deployment", "a"), ref("autoscaling/v1", "HorizontalPodAutoscaler", "a"), ref("v1", "PersistentVolumeClaim", "a")}
	now := []reference{ref("v1", "Service", "a"), ref("autoscaling/v2", "HorizontalPodAutoscaler", "a")}
	got := fmt.Sprint(left(before, now))
	if want := "[persistentvolumeclaim/a deployment/a]"; got != want {
		t.Errorf("left are %s, want %s: an object is the same by whatever version of its API", got, want)
	}
	if kept(before[3]) == "" || kept(before[1]) != "" || !strings.Contains(kept(reference{Kind: "Namespace"}), "marked") {
		t.Error("what was sold and namespaces are kept, Deployments are not")
	}
}
