package local

import (
	"context"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"spillway.dev/lab/engine/manifest"
	enginev1 "spillway.dev/proto/gen/spillway/engine/v1"
)

// mistake is an edit of the test manifests that makes them wrong.
type mistake struct{ name, file, before, after, want string }

var mistakes = []mistake{
	{
		"an unknown field", "echo.yaml", "  replicas: 2", "  replicass: 2",
		`Deployment echo: unknown field "spec.replicass" (in overlays/local/echo.yaml)`,
	}, {
		"a policy that callers do not have", "echo.yaml", "  name: echo\nspec:\n  type:", "  name: echo\n  annotations: {spillway.dev/policy: fastest}\nspec:\n  type:",
		`Service echo: metadata.annotations[spillway.dev/policy]: mesh: service "echo": policy "fastest" is not allowed, give "round_robin", "least_request" or "ring_hash"`,
	}, {
		"a surge that is no number", "echo.yaml", "maxSurge: 1", "maxSurge: many",
		`Deployment echo: spec.strategy.rollingUpdate.maxSurge many: give a number of pods or a percentage`,
	}, {
		"fewer than none unavailable", "echo.yaml", "maxUnavailable: 0", `maxUnavailable: "-1%"`,
		`Deployment echo: spec.strategy.rollingUpdate.maxUnavailable -1%: give a number of pods or a percentage`,
	}, {
		"a strategy of another kind", "echo.yaml", "  strategy:\n", "  strategy:\n    type: BlueGreen\n",
		`Deployment echo: spec.strategy.type is "BlueGreen"; give "RollingUpdate" or "Recreate"`,
	}, {
		"the last port of the mesh gone", "caller.yaml", "    - name: grpc\n      port: 29000\n      targetPort: grpc\n", "",
		`no Service has spec.ports[].name "grpc"`,
	},
}

// make puts the mistake into the manifests below root. It is undone by what it
// returns.
func (m mistake) make(t *testing.T, root string) (undo func()) {
	t.Helper()
	overlay := filepath.Join(root, "k8s/overlays/local")
	edit(t, filepath.Join(overlay, m.file), m.before, m.after)
	if m.file != "caller.yaml" {
		return func() { edit(t, filepath.Join(overlay, m.file), m.after, m.before) }
	}
	// The other Service is left out, with all that is echo's.
	edit(t, filepath.Join(overlay, "kustomization.yaml"), "  - echo.yaml\n", "")
	return func() {
		edit(t, filepath.Join(overlay, "kustomization.yaml"), "  - caller.yaml\n", "  - caller.yaml\n  - echo.yaml\n")
		edit(t, filepath.Join(overlay, m.file), "  ports:\n", "  ports:\n"+m.before)
	}
}

func TestUpRefusesWrongManifests(t *testing.T) {
	for _, m := range mistakes {
		t.Run(m.name, func(t *testing.T) {
			b := &bench{t: t, root: newRoot(t), state: filepath.Join(t.TempDir(), "state")}
			m.make(t, b.root)
			e, err := Up(t.Context(), b.options())
			if err == nil {
				t.Fatalf("a mesh of wrong manifests is up; down: %v", e.Down(t.Context()))
			}
			if !strings.Contains(err.Error(), m.want) {
				t.Errorf("%v, want %s", err, m.want)
			}
		})
	}
}

// A wrong manifest changes nothing, and the mesh follows its replicas as before.
func TestWrongManifestChangesNothing(t *testing.T) {
	b := start(t, newRoot(t), filepath.Join(t.TempDir(), "state"))
	endpoints := func() []string {
		t.Helper()
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		stream, err := b.api.WatchEndpoints(ctx, &enginev1.WatchEndpointsRequest{Service: "echo"})
		if err != nil {
			t.Fatal(err)
		}
		list, err := stream.Recv() // the first says how things are
		if err != nil {
			t.Fatal(err)
		}
		return slices.Sorted(slices.Values(list.GetAddresses()))
	}
	wanted := int32(2)
	for _, m := range mistakes {
		before := b.pids()
		undo := m.make(t, b.root)
		until(t, m.name+" is reported", func() bool {
			return b.said(EventManifestError, "the mesh goes on as it was: ") && b.said(EventManifestError, m.want)
		})
		if after := b.pids(); !slices.Equal(before, after) {
			t.Errorf("%s: processes %v were %v", m.name, after, before)
		}
		wanted = 5 - wanted // 3 and 2 in turn
		if _, err := b.api.Scale(t.Context(), &enginev1.ScaleRequest{Workload: "echo", Replicas: wanted}); err != nil {
			t.Fatal(err)
		}
		until(t, "new calls go to exactly the replicas that run", func() bool {
			var running []string
			for _, r := range b.workload("echo").GetReplicas() {
				running = append(running, r.GetGrpcAddress())
			}
			slices.Sort(running)
			return len(running) == int(wanted) && slices.Equal(endpoints(), running)
		})
		b.more(50)
		undo()
	}
	if c := b.counts(); c.Failed != 0 {
		t.Errorf("%d of %d calls failed, such as: %s", c.Failed, c.Calls, c.Error)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, e := range b.events {
		if e.Kind == EventManifestError && !strings.HasPrefix(e.Text, "the mesh goes on as it was: ") {
			t.Errorf("a wrong manifest got further than its reading: %s", e.Text)
		}
	}
}

// What cannot be announced is said once, and those who wait are woken all the same.
func TestAnnounceComplainsOnce(t *testing.T) {
	var told []string
	e := &Engine{
		changed: make(chan struct{}), manifests: &manifest.Mesh{}, // a mesh of no Service is refused
		events: newEvents(func(event Event) { told = append(told, event.Text) }),
	}
	for range 3 {
		changed := e.changed
		e.announce()
		select {
		case <-changed:
		default:
			t.Error("whoever waits for a change was not woken")
		}
	}
	e.events.close()
	if len(told) != 1 || !strings.Contains(told[0], "a state without services") {
		t.Errorf("told %q, want one event about a state without services", told)
	}
}

func TestFrontDoorsFollowManifests(t *testing.T) {
	b := start(t, newRoot(t), filepath.Join(t.TempDir(), "state"))
	caller := filepath.Join(b.root, "k8s/overlays/local/caller.yaml")
	echo := filepath.Join(b.root, "k8s/overlays/local/echo.yaml")
	address := strings.TrimPrefix(b.engine.GatewayURL(), "http://")
	said := func(text string) {
		t.Helper()
		until(t, "an event says "+text, func() bool {
			return b.said(EventIgnored, "without effect until the next `spillway up`: "+text)
		})
	}
	// The port's target is followed: nobody speaks HTTP/1 at the other port.
	edit(t, caller, "targetPort: admin", "targetPort: grpc")
	until(t, "the door leads to the other port", func() bool {
		var c counts
		return ask(t, http.MethodGet, address, "/counts", &c) != nil
	})
	edit(t, caller, "port: 29001\n      targetPort: grpc", "port: 29002\n      targetPort: admin")
	said(`Service caller: port "http" is 29002; its front door stays at ` + address)
	until(t, "the door leads back", func() bool {
		var c counts
		return ask(t, http.MethodGet, address, "/counts", &c) == nil
	})
	edit(t, echo, "type: ClusterIP", "type: LoadBalancer")
	said(`Service echo: spec.type is "LoadBalancer"; port "grpc" has no front door`)
	edit(t, caller, "type: LoadBalancer", "type: ClusterIP")
	said(`Service caller: spec.type is "ClusterIP"; the front door ` + address + ` to port "http" stays open`)
	edit(t, caller, "- name: http", "- name: web")
	said(`Service caller has no port "http" any more; its front door ` + address + " stays open")

	b.mu.Lock()
	defer b.mu.Unlock()
	seen := 0
	for _, e := range b.events {
		if strings.Contains(e.Text, `Service echo: spec.type is "LoadBalancer"`) {
			seen++
		}
	}
	if seen != 1 {
		t.Errorf("what waits for the next start was reported %d times", seen)
	}
}

// The rest of ConfigMap mesh is the manifests' own.
func TestConfigMapMeshKeepsItsKeys(t *testing.T) {
	root := newRoot(t)
	edit(t, filepath.Join(root, "k8s/overlays/local/mesh.yaml"), "  xds: to be filled in", "  xds: to be filled in\n  colour: blue")
	edit(t, filepath.Join(root, "k8s/overlays/local/echo.yaml"), "              value: one",
		"              valueFrom: {configMapKeyRef: {name: mesh, key: colour}}")
	b := start(t, root, filepath.Join(t.TempDir(), "state"))
	var env []string
	if err := ask(t, http.MethodGet, b.workload("echo").GetReplicas()[0].GetAdminAddress(), "/env", &env); err != nil {
		t.Fatal(err)
	}
	if !slices.Contains(env, "VERSION=blue") {
		t.Errorf("no VERSION=blue in %q", env)
	}
}
