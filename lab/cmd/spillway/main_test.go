package main

import (
	"bytes"
	"context"
	"flag"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/timestamppb"

	"spillway.dev/lab/engine/local"
	enginev1 "spillway.dev/proto/gen/spillway/engine/v1"
)

var update = flag.Bool("update", false, "rewrite what the scripts compare with")

func TestMain(m *testing.M) {
	testscript.Main(leakChecked{m}, map[string]func(){"spillway": main})
}

// leakChecked fails a run of tests that leaves goroutines behind.
type leakChecked struct{ m *testing.M }

func (l leakChecked) Run() int {
	code := l.m.Run()
	if code == 0 {
		if err := goleak.Find(); err != nil {
			os.Stderr.WriteString(err.Error() + "\n")
			return 1
		}
	}
	return code
}

func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{Dir: filepath.Join("testdata", "script"), UpdateScripts: *update})
}

// stub is an engine whose mesh has one workload.
type stub struct {
	enginev1.UnimplementedEngineServiceServer
	mu    sync.Mutex
	calls []string
}

func (s *stub) called(what string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.calls = append(s.calls, what)
}

func (s *stub) ListWorkloads(context.Context, *enginev1.ListWorkloadsRequest) (*enginev1.ListWorkloadsResponse, error) {
	return &enginev1.ListWorkloadsResponse{Workloads: []*enginev1.Workload{{Name: "order", Desired: 1, Replicas: []*enginev1.Replica{{Name: "order-1"}}}}}, nil
}

func (s *stub) Scale(_ context.Context, req *enginev1.ScaleRequest) (*enginev1.ScaleResponse, error) {
	if req.Workload != "order" {
		return nil, status.Errorf(codes.NotFound, "no workload is called %q", req.Workload)
	}
	s.called("scale " + req.Workload)
	return &enginev1.ScaleResponse{Previous: 1}, nil
}

func (s *stub) Kill(_ context.Context, req *enginev1.KillRequest) (*enginev1.KillResponse, error) {
	s.called("kill " + req.Workload + " " + req.Replica)
	return &enginev1.KillResponse{Killed: []string{"order-1"}}, nil
}

func (s *stub) StreamLogs(req *enginev1.StreamLogsRequest, stream grpc.ServerStreamingServer[enginev1.StreamLogsResponse]) error {
	return stream.Send(&enginev1.StreamLogsResponse{Replica: "order-1", Line: req.Name + " says"})
}

// start serves the stub as an engine does and returns its state directory.
func (s *stub) start(t *testing.T) (dir string) {
	t.Helper()
	dir, err := os.MkdirTemp("", "s") // t.TempDir may be too long for a socket
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	socket := filepath.Join(dir, "engine.sock")
	lis, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "engine.json"), []byte(`{"pid":1,"socket":"`+socket+`"}`), 0o600); err != nil {
		t.Fatal(err)
	}
	srv := grpc.NewServer()
	enginev1.RegisterEngineServiceServer(srv, s)
	var done sync.WaitGroup
	done.Go(func() { _ = srv.Serve(lis) })
	t.Cleanup(func() { srv.Stop(); done.Wait() })
	return dir
}

func TestCommandsTalkToTheEngine(t *testing.T) {
	s := &stub{}
	dir := s.start(t)
	for _, tc := range []struct {
		args   string
		code   int
		out    string
		errOut string
	}{
		{"scale order 3", exitOK, "order scaled from 1 to 3\n", ""},
		{"scale nope 3", exitFailed, "", "spillway: scale nope: no workload is called \"nope\"\n"},
		{"kill order/order-1", exitOK, "killed order-1\n", ""},
		{"kill order --json", exitOK, "{\n  \"killed\": [\n    \"order-1\"\n  ]\n}\n", ""},
		{"logs order", exitOK, "order-1 | order says\n", ""},
		{"logs --json", exitOK, "{\"line\":\" says\",\"replica\":\"order-1\"}\n", ""},
		{"__complete scale o", exitOK, "order\n:4\n", "Completion ended with directive: ShellCompDirectiveNoFileComp\n"},
		{"__complete kill order/", exitOK, "order/order-1\n:4\n", "Completion ended with directive: ShellCompDirectiveNoFileComp\n"},
	} {
		args := strings.Fields(tc.args)
		if args[0] == "__complete" {
			args = append([]string{"__complete", "--dir", dir}, args[1:]...)
		} else {
			args = append(args, "--dir", dir)
		}
		var out, errOut bytes.Buffer
		if code := run(t.Context(), args, nil, &out, &errOut); code != tc.code || out.String() != tc.out || errOut.String() != tc.errOut {
			t.Errorf("%s: got exit %d, %q and %q, want %d, %q and %q", tc.args, code, out.String(), errOut.String(), tc.code, tc.out, tc.errOut)
		}
	}
	if got, want := strings.Join(s.calls, ", "), "scale order, kill order order-1, kill order "; got != want {
		t.Errorf("the engine was asked to %q, want %q", got, want)
	}
}

func TestWriteWorkloads(t *testing.T) {
	now := time.Date(2031, time.March, 7, 19, 30, 0, 0, time.UTC)
	var b strings.Builder
	err := writeWorkloads(&b, []*enginev1.Workload{{Name: "order", Desired: 2, Ready: 1, Replicas: []*enginev1.Replica{
		{Name: "order-a", Phase: enginev1.ReplicaPhase_REPLICA_PHASE_RUNNING, Ready: true, Pid: 12, StartedAt: timestamppb.New(now.Add(-3 * time.Minute)), GrpcAddress: "127.0.0.1:9000"},
		{Name: "order-b", Phase: enginev1.ReplicaPhase_REPLICA_PHASE_WAITING, Restarts: 4, Reason: "CrashLoopBackOff, 2.5s left"},
	}}}, now)
	want := `WORKLOAD    READY   STATE     RESTARTS   AGE    PID   GRPC             REASON
order       1/2
  order-a   yes     running   0          3m0s   12    127.0.0.1:9000
  order-b   no      waiting   4          -      -     -                CrashLoopBackOff, 2.5s left
`
	if err != nil || b.String() != want {
		t.Errorf("got %v:\n%s\nwant:\n%s", err, b.String(), want)
	}
}

func TestBoardPrintsEveryChangeWhereNothingCanBeRedrawn(t *testing.T) {
	var b strings.Builder
	board := newBoard(&b, false, 80)
	ready := local.Event{Kind: local.EventWorkload, Workload: "order", Ready: 1, Wanted: 2}
	for _, e := range []local.Event{
		{Kind: local.EventStore, Text: "redis is up"},
		ready, ready,
		{Kind: local.EventReplica, Workload: "order", Replica: "order-1", Text: "started"},
		{Kind: local.EventWorkload, Workload: "order", Ready: 2, Wanted: 2},
	} {
		board.event(e)
	}
	board.finish()
	board.event(local.Event{Kind: local.EventReplica, Replica: "order-1", Text: "killed", At: time.Date(2031, 1, 1, 12, 0, 0, 0, time.UTC)})
	want := `redis is up
order       1 of 2 ready
order       1 of 2 ready   order-1: started
order       2 of 2 ready ✓
12:00:00  order-1: killed
`
	if b.String() != want {
		t.Errorf("got:\n%s\nwant:\n%s", b.String(), want)
	}
}

func TestBoardRedrawsOneLineAWorkload(t *testing.T) {
	var b strings.Builder
	board := newBoard(&b, true, 30)
	board.event(local.Event{Kind: local.EventWorkload, Workload: "order", Wanted: 1})
	board.event(local.Event{Kind: local.EventReplica, Workload: "order", Replica: "order-1", Text: "a text that is wider than the terminal"})
	board.event(local.Event{Kind: local.EventStore, Text: "redis is up"})
	want := "order       0 of 1 ready\n" +
		"\x1b[1A\x1b[Jorder       0 of 1 ready   or\n" +
		"\x1b[1A\x1b[Jredis is up\norder       0 of 1 ready   or\n"
	if b.String() != want {
		t.Errorf("got:\n%q\nwant:\n%q", b.String(), want)
	}
}

func TestEveryCommandHasHelpWithAnExample(t *testing.T) {
	for _, cmd := range newRoot(&app{}).Commands() {
		if cmd.Hidden || cmd.Name() == "completion" {
			continue
		}
		if cmd.Short == "" || cmd.Example == "" {
			t.Errorf("%s: short %q, example %q", cmd.Name(), cmd.Short, cmd.Example)
		}
	}
}

func TestExplainSaysAReceivedErrorOnce(t *testing.T) {
	err := status.Error(codes.NotFound, "no such thing")
	if got := explain(err); got != "no such thing" {
		t.Errorf("got %q", got)
	}
}
