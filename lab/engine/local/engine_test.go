package local

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"spillway.dev/lab/engine/client"
	enginev1 "spillway.dev/proto/gen/spillway/engine/v1"
)

func TestReplicaGetsItsEnvironment(t *testing.T) {
	b := start(t, newRoot(t), filepath.Join(t.TempDir(), "state"), func(o *Options) { o.Env = []string{"VERSION=none", "OF_ALL=yes"} })
	r := b.workload("echo").GetReplicas()[0]
	var env []string
	if err := ask(t, http.MethodGet, r.GetAdminAddress(), "/env", &env); err != nil {
		t.Fatal(err)
	}
	info, err := b.api.GetInfo(t.Context(), &enginev1.GetInfoRequest{})
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"POD_NAME=" + r.GetName(), "SERVICE=echo", "VERSION=one", "OF_ALL=yes", "GRPC_ADDR=" + r.GetGrpcAddress(), "XDS=" + info.GetXdsAddress(),
		`GRPC_XDS_BOOTSTRAP_CONFIG={"xds_servers":[{"server_uri":"` + info.GetXdsAddress() + `","channel_creds":[{"type":"insecure"}],"server_features":["xds_v3"]}],"node":{"id":"echo/` + r.GetName() + `"}}`,
	} {
		if !slices.Contains(env, want) {
			t.Errorf("no %s in %q", want, env)
		}
	}
	if !info.GetReady() || info.GetPid() != int32(os.Getpid()) || info.GetRedisKind() == "" {
		t.Errorf("info: %v", info)
	}
}

func TestContainerIsStartedAgain(t *testing.T) {
	b := start(t, newRoot(t), filepath.Join(t.TempDir(), "state"))
	for _, test := range []struct{ path, reason string }{
		{"/exit/7", "exit code 7"},
		{"/hang", "liveness probe failed"},
	} {
		before := b.workload("echo").GetReplicas()[0]
		_ = ask(t, http.MethodPost, before.GetAdminAddress(), test.path, nil)
		var after *enginev1.Replica
		until(t, "the container runs again after "+test.path, func() bool {
			for _, r := range b.workload("echo").GetReplicas() {
				if r.GetName() == before.GetName() {
					after = r
				}
			}
			return after.GetReady() && after.GetRestarts() == before.GetRestarts()+1
		})
		if after.GetPid() == before.GetPid() || after.GetGrpcAddress() != before.GetGrpcAddress() {
			t.Errorf("after %s: a new process at the same address wanted, was %v, is %v", test.path, before, after)
		}
		if !b.said(EventReplica, test.reason) {
			t.Errorf("no event says %q", test.reason)
		}
	}
}

// Of a process that was killed, or ended by itself, nobody could read the last
// figures; of one that was asked to end somebody could.
func TestEventsTellWhoCouldNotDrain(t *testing.T) {
	b := start(t, newRoot(t), filepath.Join(t.TempDir(), "state"))
	cut := func(replica string) (told, cut bool) {
		b.mu.Lock()
		defer b.mu.Unlock()
		for _, e := range b.events {
			if e.Replica == replica {
				told, cut = told || e.Text == "gone", cut || e.Cut
			}
		}
		return told, cut
	}
	killed, err := b.engine.Kill("echo", 1)
	if err != nil {
		t.Fatal(err)
	}
	until(t, "the kill is told as a cut", func() bool { _, cut := cut(killed[0]); return cut })
	b.ready()
	var left []string
	for _, r := range b.workload("echo").GetReplicas() {
		if r.GetName() != killed[0] {
			left = append(left, r.GetName())
		}
	}
	if _, err := b.engine.SetReplicas("echo", 0); err != nil {
		t.Fatal(err)
	}
	for _, name := range left {
		until(t, name+" is gone", func() bool { gone, _ := cut(name); return gone })
		if _, cut := cut(name); cut {
			t.Errorf("%s was asked to end and drained, and is told as cut", name)
		}
	}
}

func TestUnreadyReplicaIsNoEndpoint(t *testing.T) {
	b := start(t, newRoot(t), filepath.Join(t.TempDir(), "state"))
	stream, err := b.api.WatchEndpoints(t.Context(), &enginev1.WatchEndpointsRequest{Service: "echo"})
	if err != nil {
		t.Fatal(err)
	}
	receive := func() []string {
		t.Helper()
		list, err := stream.Recv()
		if err != nil {
			t.Fatal(err)
		}
		return list.GetAddresses()
	}
	if got := receive(); len(got) != 2 {
		t.Fatalf("endpoints %v, want 2", got)
	}
	gone := b.workload("echo").GetReplicas()[0]
	if err := ask(t, http.MethodPost, gone.GetAdminAddress(), "/unready", nil); err != nil {
		t.Fatal(err)
	}
	if got := receive(); len(got) != 1 || got[0] == gone.GetGrpcAddress() {
		t.Errorf("endpoints %v, want all but %s", got, gone.GetGrpcAddress())
	}
	if r := b.workload("echo").GetReplicas()[0]; r.GetRestarts() != 0 || r.GetPid() != gone.GetPid() {
		t.Errorf("an unready replica must go on running: %v", r)
	}
}

// Nothing that is done on purpose costs a call, and no call runs twice.
func TestChangesLoseNoCall(t *testing.T) {
	b := start(t, newRoot(t), filepath.Join(t.TempDir(), "state"))
	b.more(50)
	scale := func(n int32) {
		if _, err := b.api.Scale(t.Context(), &enginev1.ScaleRequest{Workload: "echo", Replicas: n}); err != nil {
			t.Fatal(err)
		}
	}
	settled := func(n int) {
		t.Helper()
		b.ready()
		until(t, "no echo replica is on its way out", func() bool { return len(b.workload("echo").GetReplicas()) == n })
	}
	scale(4)
	settled(4)
	b.more(200)
	scale(1)
	settled(1)
	b.more(50)

	old := b.workload("echo").GetReplicas()[0].GetTemplateHash()
	if _, err := b.api.Restart(t.Context(), &enginev1.RestartRequest{Workload: "echo"}); err != nil {
		t.Fatal(err)
	}
	settled(1)
	if now := b.workload("echo").GetReplicas()[0].GetTemplateHash(); now == old {
		t.Errorf("the replica still has the template %s", now)
	}
	b.more(50)

	// The manifest changes under the running mesh. The scale set by hand stays.
	edit(t, filepath.Join(b.root, "k8s/overlays/local/echo.yaml"), "value: one", "value: two")
	until(t, "the new version serves", func() bool {
		var env []string
		rs := b.workload("echo").GetReplicas()
		return len(rs) == 1 && ask(t, http.MethodGet, rs[0].GetAdminAddress(), "/env", &env) == nil && slices.Contains(env, "VERSION=two")
	})
	b.more(50)
	// A new number in the manifest replaces it.
	edit(t, filepath.Join(b.root, "k8s/overlays/local/echo.yaml"), "replicas: 2", "replicas: 3")
	until(t, "three replicas are wanted", func() bool { return b.workload("echo").GetDesired() == 3 })
	settled(3)
	b.more(200)

	if c := b.counts(); c.Failed != 0 {
		t.Errorf("%d of %d calls failed, such as: %s", c.Failed, c.Calls, c.Error)
	}
	if err := b.engine.Down(t.Context()); err != nil {
		t.Fatal(err)
	}
	calls, served := 0, 0
	files, err := filepath.Glob(filepath.Join(b.state, "logs", "*.log"))
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		served += strings.Count(string(text), "served\n")
		if _, after, found := strings.Cut(string(text), "calls "); found {
			n := 0
			if _, err := fmt.Sscan(after, &n); err != nil {
				t.Fatal(err)
			}
			calls += n
		}
	}
	if calls == 0 || calls != served {
		t.Errorf("%d calls were made and %d were served", calls, served)
	}
}

func TestConductorKilled(t *testing.T) {
	b := start(t, newRoot(t), filepath.Join(t.TempDir(), "state"))
	b.more(50)
	killed, err := b.api.Kill(t.Context(), &enginev1.KillRequest{Workload: "conductor"})
	if err != nil || len(killed.GetKilled()) != 1 {
		t.Fatalf("kill conductor: %v, %v", killed, err)
	}
	until(t, "the conductor is back", func() bool {
		w := b.workload("conductor")
		return w.GetReady() == 1 && w.GetReplicas()[0].GetRestarts() == 1
	})
	// Updates go on: the calls of the only replica that is left reach it.
	if _, err := b.api.Restart(t.Context(), &enginev1.RestartRequest{Workload: "echo"}); err != nil {
		t.Fatal(err)
	}
	b.ready()
	b.more(100)
	if c := b.counts(); c.Failed != 0 {
		t.Errorf("%d of %d calls failed, such as: %s", c.Failed, c.Calls, c.Error)
	}
}

func TestKillStartsInPlace(t *testing.T) {
	b := start(t, newRoot(t), filepath.Join(t.TempDir(), "state"))
	killed, err := b.api.Kill(t.Context(), &enginev1.KillRequest{Workload: "echo"})
	if err != nil || len(killed.GetKilled()) != 2 {
		t.Fatalf("kill echo: %v, %v", killed, err)
	}
	until(t, "both have been started again", func() bool {
		w := b.workload("echo")
		return w.GetReady() == 2 && !slices.ContainsFunc(w.GetReplicas(), func(r *enginev1.Replica) bool { return r.GetRestarts() != 1 })
	})
	for _, test := range []struct {
		request *enginev1.KillRequest
		code    codes.Code
	}{
		{&enginev1.KillRequest{Workload: "nobody"}, codes.NotFound},
		{&enginev1.KillRequest{Workload: "echo", Replica: "echo-x"}, codes.NotFound},
	} {
		if _, err := b.api.Kill(t.Context(), test.request); status.Code(err) != test.code {
			t.Errorf("kill %v: %v, want %v", test.request, err, test.code)
		}
	}
}

func TestLogs(t *testing.T) {
	b := start(t, newRoot(t), filepath.Join(t.TempDir(), "state"))
	r := b.workload("echo").GetReplicas()[0]
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	stream, err := b.api.StreamLogs(ctx, &enginev1.StreamLogsRequest{Name: r.GetName(), Tail: 1000, Follow: true})
	if err != nil {
		t.Fatal(err)
	}
	line, err := stream.Recv()
	if err != nil || line.GetReplica() != r.GetName() || line.GetLine() != "serving "+r.GetName()+" one" {
		t.Errorf("first line %v, %v", line, err)
	}
	text, err := os.ReadFile(filepath.Join(b.state, "logs", r.GetName()+".log"))
	if err != nil || !strings.HasPrefix(string(text), line.GetLine()+"\n") {
		t.Errorf("file: %.100q, %v", text, err)
	}
	unknown, err := b.api.StreamLogs(ctx, &enginev1.StreamLogsRequest{Name: "nobody"})
	if err == nil {
		_, err = unknown.Recv()
	}
	if status.Code(err) != codes.NotFound {
		t.Errorf("logs of nobody: %v", err)
	}
}

func TestDownLeavesNothing(t *testing.T) {
	b := start(t, newRoot(t), filepath.Join(t.TempDir(), "state"))
	pids := b.pids()
	if len(pids) < 4 {
		t.Fatalf("pids %v: 3 replicas and the conductor wanted", pids)
	}
	go func() {
		<-b.engine.StopRequested()
		_ = b.engine.Down(context.WithoutCancel(t.Context()))
	}()
	if _, err := b.api.Down(t.Context(), &enginev1.DownRequest{}); err != nil {
		t.Fatal(err)
	}
	for _, pid := range pids {
		if err := syscall.Kill(pid, 0); !errors.Is(err, syscall.ESRCH) {
			t.Errorf("process %d is still there: %v", pid, err)
		}
	}
	if _, _, err := client.Dial(b.state); !errors.Is(err, client.ErrNotRunning) {
		t.Errorf("dial after down: %v", err)
	}
	if !b.said(EventStopped, "") {
		t.Error("nobody was told that it stopped")
	}
	// The directory can be used again at once.
	start(t, b.root, b.state)
}

func TestOneEngineForAStateDirectory(t *testing.T) {
	b := start(t, newRoot(t), filepath.Join(t.TempDir(), "state"))
	_, err := Up(t.Context(), b.options())
	if err == nil || !strings.Contains(err.Error(), fmt.Sprintf("pid %d", os.Getpid())) || !strings.Contains(err.Error(), "spillway down") {
		t.Errorf("second up: %v", err)
	}
	// Beside it, in a directory of its own, another one has a place.
	other := start(t, b.root, filepath.Join(t.TempDir(), "state"))
	if b.engine.GatewayURL() == other.engine.GatewayURL() {
		t.Errorf("both at %s", b.engine.GatewayURL())
	}
	other.more(10)
	b.more(10)
}

func TestKilledEngineLeavesNothing(t *testing.T) {
	root, state := newRoot(t), filepath.Join(t.TempDir(), "state")
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	engine := exec.Command(self, "engine", root, state)
	out, err := engine.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := engine.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = engine.Process.Kill(); _ = engine.Wait() })
	if line, err := bufio.NewReader(out).ReadString('\n'); line != "ready\n" {
		t.Fatalf("engine says %q, %v", line, err)
	}
	api, closeClient, err := client.Dial(state)
	if err != nil {
		t.Fatal(err)
	}
	defer closeClient()
	killed := &bench{t: t, api: api}
	pids := killed.pids()

	if err := engine.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = engine.Wait()
	b := start(t, root, state)
	if !b.said(EventLeftovers, "was killed") {
		t.Error("nobody was told about the engine that was killed")
	}
	for _, pid := range pids {
		until(t, fmt.Sprintf("process %d is gone", pid), func() bool { return errors.Is(syscall.Kill(pid, 0), syscall.ESRCH) })
	}
}

func TestUpSaysWhatIsMissing(t *testing.T) {
	root := newRoot(t)
	if err := os.Remove(filepath.Join(root, "bin", "replica")); err != nil {
		t.Fatal(err)
	}
	b := &bench{t: t, root: root, state: filepath.Join(t.TempDir(), "state")}
	if _, err := Up(t.Context(), b.options()); err == nil || !strings.Contains(err.Error(), "make build") {
		t.Errorf("up without programs: %v", err)
	}
}

// pids lists the processes of the replicas and of the conductor.
func (b *bench) pids() (pids []int) {
	b.t.Helper()
	list, err := b.api.ListWorkloads(b.t.Context(), &enginev1.ListWorkloadsRequest{})
	if err != nil {
		b.t.Fatal(err)
	}
	for _, w := range list.GetWorkloads() {
		for _, r := range w.GetReplicas() {
			pids = append(pids, int(r.GetPid()))
		}
	}
	return pids
}

// edit replaces a text in a file, as an editor does that writes a new one.
func edit(t *testing.T, path, before, after string) {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	changed := strings.Replace(string(text), before, after, 1)
	if changed == string(text) {
		t.Fatalf("%s does not say %q", path, before)
	}
	if err := os.WriteFile(path+".new", []byte(changed), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		t.Fatal(err)
	}
}
