package local

import (
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/redis/go-redis/v9"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"

	"spillway.dev/lab/engine/manifest"
	"spillway.dev/platform/mesh"
	enginev1 "spillway.dev/proto/gen/spillway/engine/v1"
)

// state is the letter by which Linux tells what a process does: T for one that is
// stopped.
func state(t *testing.T, pid int32) string {
	t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return "gone"
	}
	return strings.Fields(string(text[strings.LastIndexByte(string(text), ')')+1:]))[0]
}

// patient has the replicas be no endpoints while they do not answer, and live on.
func patient(t *testing.T, root string) {
	t.Helper()
	edit(t, filepath.Join(root, "k8s/overlays/local/every.yaml"), "service: liveness}\n            periodSeconds: 1\n            failureThreshold: 1", "service: liveness}\n            periodSeconds: 1\n            failureThreshold: 1000")
}

func TestPausedReplicaGoesOn(t *testing.T) {
	root := newRoot(t)
	patient(t, root)
	b := start(t, root, filepath.Join(t.TempDir(), "state"))
	before := b.workload("echo").GetReplicas()
	names, err := b.engine.Pause("echo", 1)
	if err != nil || !slices.Equal(names, []string{before[0].GetName()}) {
		t.Fatalf("paused %v, %v; want the oldest", names, err)
	}
	until(t, "the process stands still", func() bool { return state(t, before[0].GetPid()) == "T" })
	if r := b.workload("echo").GetReplicas()[0]; r.GetReason() != "paused" || r.GetPhase() != enginev1.ReplicaPhase_REPLICA_PHASE_RUNNING {
		t.Errorf("the paused replica is %v", r)
	}
	until(t, "its probe has failed", func() bool { return b.workload("echo").GetReady() == 1 })
	// The next one is the other; a third is not there.
	if names, err := b.engine.Pause("echo", 5); err != nil || !slices.Equal(names, []string{before[1].GetName()}) {
		t.Errorf("paused %v, %v; want the other", names, err)
	}
	if _, err := b.engine.Pause("echo", 1); status.Code(err) != codes.FailedPrecondition {
		t.Errorf("with all paused: %v", err)
	}
	resumed, err := b.api.Resume(t.Context(), &enginev1.ResumeRequest{Workload: "echo"})
	if err != nil || len(resumed.GetResumed()) != 2 {
		t.Errorf("resumed %v, %v; want both", resumed, err)
	}
	b.ready()
	for i, r := range b.workload("echo").GetReplicas() {
		if r.GetPid() != before[i].GetPid() || r.GetRestarts() != 0 {
			t.Errorf("it is another process: %v, was %v", r, before[i])
		}
	}
	if names, err := b.engine.Resume("echo", 0); err != nil || len(names) != 0 {
		t.Errorf("resumed %v, %v; want nobody", names, err)
	}
}

func TestPausedReplicaCanBeKilled(t *testing.T) {
	root := newRoot(t)
	patient(t, root)
	b := start(t, root, filepath.Join(t.TempDir(), "state"))
	victim := b.workload("echo").GetReplicas()[1]
	paused, err := b.api.Pause(t.Context(), &enginev1.PauseRequest{Workload: "echo", Replica: victim.GetName()})
	if err != nil || !slices.Equal(paused.GetPaused(), []string{victim.GetName()}) {
		t.Fatalf("paused %v, %v", paused, err)
	}
	if _, err := b.api.Kill(t.Context(), &enginev1.KillRequest{Workload: "echo", Replica: victim.GetName()}); err != nil {
		t.Fatal(err)
	}
	until(t, "it runs again", func() bool {
		r := b.workload("echo").GetReplicas()[1]
		return r.GetReady() && r.GetRestarts() == 1 && r.GetReason() == ""
	})
	killed, err := b.engine.Kill("echo", 1)
	if err != nil || !slices.Equal(killed, []string{b.workload("echo").GetReplicas()[0].GetName()}) {
		t.Errorf("killed %v, %v; want the oldest", killed, err)
	}
	for _, test := range []struct {
		request *enginev1.PauseRequest
		code    codes.Code
	}{
		{&enginev1.PauseRequest{Workload: "nobody"}, codes.NotFound},
		{&enginev1.PauseRequest{Workload: "echo", Replica: "echo-x"}, codes.NotFound},
		{&enginev1.PauseRequest{Workload: conductorName}, codes.FailedPrecondition},
	} {
		if _, err := b.api.Pause(t.Context(), test.request); status.Code(err) != test.code {
			t.Errorf("pause %v: %v, want %v", test.request, err, test.code)
		}
	}
}

func TestDownWithPausedReplicas(t *testing.T) {
	root := newRoot(t)
	patient(t, root)
	b := start(t, root, filepath.Join(t.TempDir(), "state"))
	pids := b.pids()
	if _, err := b.engine.Pause("echo", 0); err != nil {
		t.Fatal(err)
	}
	if err := b.engine.Down(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, pid := range pids {
		if err := syscall.Kill(pid, 0); !errors.Is(err, syscall.ESRCH) {
			t.Errorf("process %d is still there: %v", pid, err)
		}
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, e := range b.events {
		if strings.Contains(e.Text, "grace period") {
			t.Errorf("it did not drain: %v", e)
		}
	}
}

// A replica that hangs for good is started again by its liveness probe, though it
// does not hear of its end.
func TestPausedReplicaIsReplacedByItsLivenessProbe(t *testing.T) {
	root := newRoot(t)
	edit(t, filepath.Join(root, "k8s/overlays/local/every.yaml"), "terminationGracePeriodSeconds: 10", "terminationGracePeriodSeconds: 1")
	b := start(t, root, filepath.Join(t.TempDir(), "state"))
	if _, err := b.engine.Pause("echo", 1); err != nil {
		t.Fatal(err)
	}
	until(t, "it was killed and runs again", func() bool {
		r := b.workload("echo").GetReplicas()[0]
		return r.GetRestarts() >= 1 && r.GetReady()
	})
}

func TestStoresStopAndStart(t *testing.T) {
	root := newRoot(t)
	edit(t, filepath.Join(root, "k8s/overlays/local/mesh.yaml"), "apiVersion: v1\n", "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: redis\ndata:\n  redis.conf: |\n    maxclients 55\n---\napiVersion: v1\n")
	b := start(t, root, filepath.Join(t.TempDir(), "state"))
	client := redis.NewClient(&redis.Options{Addr: b.engine.redisAddr, MaxRetries: -1})
	defer client.Close()
	if limit, err := client.ConfigGet(t.Context(), "maxclients").Result(); err != nil || limit["maxclients"] != "55" {
		t.Errorf("maxclients %v, %v; want what ConfigMap redis says", limit, err)
	}
	if err := client.Set(t.Context(), "k", "v", 0).Err(); err != nil {
		t.Fatal(err)
	}
	answers := map[string]func() error{
		"redis": func() error { return client.Ping(t.Context()).Err() },
		"nats": func() error {
			conn, err := nats.Connect(b.engine.natsURL)
			if err == nil {
				conn.Close()
			}
			return err
		},
	}
	for _, name := range []string{"redis", "nats"} {
		for range 2 { // it stays as it is the second time
			if err := b.engine.StopStore(t.Context(), name); err != nil {
				t.Errorf("stop %s: %v", name, err)
			}
			if err := answers[name](); err == nil {
				t.Errorf("%s was stopped, and it answers", name)
			}
		}
		for range 2 {
			if err := b.engine.StartStore(t.Context(), name); err != nil {
				t.Errorf("start %s: %v", name, err)
			}
			if err := answers[name](); err != nil {
				t.Errorf("%s was started again, and does not answer: %v", name, err)
			}
		}
	}
	if v, err := client.Get(t.Context(), "k").Result(); err != nil || v != "v" {
		t.Errorf("after the restart Redis has %q, %v", v, err)
	}
	if err := b.engine.StopStore(t.Context(), "disk"); status.Code(err) != codes.NotFound {
		t.Errorf("stop a store that is not there: %v", err)
	}
	// The mesh can end with both stopped.
	for name := range answers {
		if err := b.engine.StopStore(t.Context(), name); err != nil {
			t.Error(err)
		}
	}
	if err := b.engine.Down(t.Context()); err != nil {
		t.Error(err)
	}
	if err := b.engine.StartStore(t.Context(), "redis"); status.Code(err) != codes.FailedPrecondition {
		t.Errorf("start a store of a mesh that has ended: %v", err)
	}
}

func TestRedisThatDoesNotStartIsReported(t *testing.T) {
	root := newRoot(t)
	edit(t, filepath.Join(root, "k8s/overlays/local/mesh.yaml"), "apiVersion: v1\n", "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: redis\ndata:\n  redis.conf: |\n    maxclient 55\n---\napiVersion: v1\n")
	b := &bench{t: t, root: root, state: filepath.Join(t.TempDir(), "state")}
	if _, err := Up(t.Context(), b.options()); err == nil || !strings.Contains(err.Error(), "maxclient 55") {
		t.Errorf("up with a mistake in redis.conf: %v, want what Redis printed", err)
	}
}

// announced is what the control plane was told of a service.
func (b *bench) announced(service string) string {
	b.engine.mu.Lock()
	defer b.engine.mu.Unlock()
	_, after, _ := strings.Cut(string(b.engine.announced), `{"name":"`+service+`"`)
	before, _, _ := strings.Cut(after, `{"name":`)
	return before
}

func TestEndpointUpdatesAreDroppedAndMadeUpFor(t *testing.T) {
	b := start(t, newRoot(t), filepath.Join(t.TempDir(), "state"))
	b.more(10)
	b.engine.SetEndpointUpdates(0, true)
	if _, err := b.engine.SetReplicas("echo", 4); err != nil {
		t.Fatal(err)
	}
	b.ready()
	ports := func() int { return strings.Count(b.announced("echo"), `"port":`) }
	if n := ports(); n != 2 {
		t.Errorf("the control plane knows %d echo replicas, want the 2 before", n)
	}
	// What is not an endpoint gets through.
	b.engine.SetMeshFaults(map[string][]mesh.Fault{"echo": {{AbortCode: codes.Unavailable, AbortShare: 1}}})
	until(t, "calls fail as the fault says", func() bool { return b.counts().Failed > 0 })
	b.engine.SetMeshFaults(nil)
	b.engine.SetKnobs(map[string]map[string]string{"echo": {"a.knob": "7"}})
	until(t, "the control plane knows the knob", func() bool {
		b.engine.mu.Lock()
		defer b.engine.mu.Unlock()
		return strings.Contains(string(b.engine.announced), `"knobs":{"echo":{"a.knob":"7"}}`)
	})
	if n := ports(); n != 2 {
		t.Errorf("the control plane knows %d echo replicas, want the 2 before", n)
	}
	b.engine.SetEndpointUpdates(0, false)
	until(t, "the control plane knows all", func() bool { return ports() == 4 })
	// Late ones come by themselves.
	b.engine.SetEndpointUpdates(300*time.Millisecond, false)
	if _, err := b.engine.SetReplicas("echo", 5); err != nil {
		t.Fatal(err)
	}
	until(t, "the control plane knows of the fifth", func() bool { return ports() == 5 })
}

func TestConnectionThroughAClusterIPStays(t *testing.T) {
	b := start(t, newRoot(t), filepath.Join(t.TempDir(), "state"), func(o *Options) {
		o.Variant = manifest.Variant{Patches: []manifest.Patch{{Patch: `
apiVersion: apps/v1
kind: Deployment
metadata: {name: caller}
spec:
  template:
    spec:
      enableServiceLinks: true
      containers:
        - name: service
          env:
            - {name: TARGET, value: $(ECHO_SERVICE_HOST):$(ECHO_SERVICE_PORT)}
`}}}
	})
	b.more(50)
	served := func() (all []int64) {
		t.Helper()
		for _, r := range b.workload("echo").GetReplicas() {
			var c struct{ Served int64 }
			if err := ask(t, http.MethodGet, r.GetAdminAddress(), "/counts", &c); err != nil {
				t.Fatal(err)
			}
			all = append(all, c.Served)
		}
		return all
	}
	idle := func(all []int64) int {
		return len(all) - len(slices.DeleteFunc(slices.Clone(all), func(n int64) bool { return n == 0 }))
	}
	if got := served(); idle(got) != 1 {
		t.Errorf("the replicas have served %v, want all calls on one of two", got)
	}
	// New replicas do not change it.
	if _, err := b.engine.SetReplicas("echo", 4); err != nil {
		t.Fatal(err)
	}
	b.ready()
	b.more(50)
	busy := served()
	if idle(busy) != 3 {
		t.Errorf("the replicas have served %v, want all calls on one of four", busy)
	}
	// The connection breaks, and the next one meets another replica.
	i := slices.Index(busy, slices.Max(busy))
	name := b.workload("echo").GetReplicas()[i].GetName()
	if _, err := b.api.Kill(t.Context(), &enginev1.KillRequest{Workload: "echo", Replica: name}); err != nil {
		t.Fatal(err)
	}
	until(t, "it runs again", func() bool {
		w := b.workload("echo")
		return w.GetReady() == 4 && w.GetReplicas()[i].GetRestarts() == 1
	})
	b.more(50)
	if got := served(); idle(got) != 3 {
		t.Errorf("the replicas have served %v since, want all calls on one of four", got)
	}
}

func TestServicesBesideTheEngines(t *testing.T) {
	b := start(t, newRoot(t), filepath.Join(t.TempDir(), "state"), func(o *Options) {
		o.Timelapse = 10
		o.Register = func(_ *Engine, s grpc.ServiceRegistrar) error {
			healthpb.RegisterHealthServer(s, health.NewServer())
			return nil
		}
	})
	conn, err := grpc.NewClient("unix:"+b.engine.socket, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := healthpb.NewHealthClient(conn).Check(t.Context(), &healthpb.HealthCheckRequest{}); err != nil {
		t.Error(err)
	}
	b.engine.SetPrometheusURL("http://127.0.0.1:1")
	info, err := b.api.GetInfo(t.Context(), &enginev1.GetInfoRequest{})
	if err != nil || info.GetTimelapse() != 10 || info.GetPrometheusUrl() != "http://127.0.0.1:1" {
		t.Errorf("info %v, %v", info, err)
	}
	conn2, err := new(net.Dialer).DialContext(t.Context(), "tcp", b.engine.KnobTarget())
	if err != nil {
		t.Fatalf("nobody listens at the knobs' address: %v", err)
	}
	conn2.Close()
	if _, err := b.engine.SetReplicas("echo", maxReplicas+1); status.Code(err) != codes.InvalidArgument {
		t.Errorf("too many replicas: %v", err)
	}
}
