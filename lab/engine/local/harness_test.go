package local

import (
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"spillway.dev/lab/engine/client"
	"spillway.dev/lab/trace"
	enginev1 "spillway.dev/proto/gen/spillway/engine/v1"
)

// patience is how long a test waits for what must come.
const patience = 60 * time.Second

// bench is a mesh of test replicas, and its command line.
type bench struct {
	t      *testing.T
	root   string
	state  string
	change []func(*Options)
	engine *Engine
	api    enginev1.EngineServiceClient

	mu     sync.Mutex
	events []Event
}

// newRoot lays out what Options.Root holds.
func newRoot(t *testing.T) string {
	t.Helper()
	root := t.TempDir()
	if err := os.CopyFS(filepath.Join(root, "k8s"), os.DirFS("testdata/k8s")); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(filepath.Join(root, "bin"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(replicaProgram, filepath.Join(root, "bin", "replica")); err != nil {
		t.Fatal(err)
	}
	return root
}

// start brings a mesh up and takes it down at the end of the test.
func start(t *testing.T, root, state string, change ...func(*Options)) *bench {
	t.Helper()
	b := &bench{t: t, root: root, state: state, change: change}
	e, err := Up(t.Context(), b.options())
	if err != nil {
		t.Fatal(err)
	}
	b.engine = e
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		if err := e.Down(ctx); err != nil {
			t.Errorf("down: %v", err)
		}
	})
	var closeClient func() error
	if b.api, closeClient, err = client.Dial(state); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { closeClient() })
	b.ready()
	return b
}

func (b *bench) options() Options {
	o := Options{
		Root: b.root, StateDir: b.state, Log: slog.New(slog.DiscardHandler), Traces: trace.NewStore(10),
		Progress: func(event Event) {
			b.mu.Lock()
			defer b.mu.Unlock()
			b.events = append(b.events, event)
		},
	}
	for _, change := range b.change {
		change(&o)
	}
	return o
}

func (b *bench) ready() {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.t.Context(), patience)
	defer cancel()
	if err := b.engine.WaitReady(ctx); err != nil {
		b.t.Fatal(err)
	}
}

// said tells whether an event of a kind contains a text.
func (b *bench) said(kind EventKind, text string) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.ContainsFunc(b.events, func(e Event) bool { return e.Kind == kind && strings.Contains(e.Text, text) })
}

// until waits for a condition.
func until(t *testing.T, what string, condition func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); !condition(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("waited in vain until %s", what)
		}
	}
}

func (b *bench) workload(name string) *enginev1.Workload {
	b.t.Helper()
	list, err := b.api.ListWorkloads(b.t.Context(), &enginev1.ListWorkloadsRequest{})
	if err != nil {
		b.t.Fatal(err)
	}
	i := slices.IndexFunc(list.GetWorkloads(), func(w *enginev1.Workload) bool { return w.GetName() == name })
	if i < 0 {
		b.t.Fatalf("no workload %s in %v", name, list)
	}
	return list.GetWorkloads()[i]
}

// ask sends an HTTP request to a replica and decodes the answer into into,
// unless that is nil. The replica may be gone before it answers.
func ask(t *testing.T, method, address, path string, into any) error {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), method, "http://"+address+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	request.Close = true
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	if into == nil {
		_, err := io.Copy(io.Discard, response.Body)
		return err
	}
	return json.NewDecoder(response.Body).Decode(into)
}

// counts are what the caller has seen.
type counts struct {
	Calls, Failed int64
	Error         string
}

func (b *bench) counts() (c counts) {
	b.t.Helper()
	if err := ask(b.t, http.MethodGet, strings.TrimPrefix(b.engine.GatewayURL(), "http://"), "/counts", &c); err != nil {
		b.t.Fatal(err)
	}
	return c
}

// more waits until the caller has made n more calls, so that a change had calls
// before, during and after it.
func (b *bench) more(n int64) {
	b.t.Helper()
	from := b.counts().Calls
	until(b.t, "the caller has made more calls", func() bool { return b.counts().Calls >= from+n })
}
