package red

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/grpc-ecosystem/go-grpc-middleware/v2/interceptors"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"go.uber.org/goleak"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var hold = interceptors.CallMeta{Service: "s", Method: "Hold", Typ: interceptors.Unary}

func TestPeersAreBounded(t *testing.T) {
	reg := prometheus.NewPedanticRegistry()
	c, err := NewServer("inventory", reg)
	if err != nil {
		t.Fatal(err)
	}
	const peers, callsEach = 3 * maxPeers, 4
	var wg sync.WaitGroup
	for i := range peers {
		wg.Go(func() {
			report := c.Peer(func(context.Context) string { return fmt.Sprint("peer-", i) })
			for range callsEach {
				r, _ := report(t.Context(), hold)
				r.PostCall(nil, time.Millisecond)
			}
		})
	}
	wg.Wait()
	if n := testutil.CollectAndCount(c.handled); n != maxPeers+1 {
		t.Errorf("%d callers have series, want %d and one for all others", n, maxPeers)
	}
	if got := testutil.ToFloat64(c.handled.WithLabelValues("unary", "s", "Hold", otherPeer, "OK")); got != (peers-maxPeers)*callsEach {
		t.Errorf("%v calls are counted as of others, want %d", got, (peers-maxPeers)*callsEach)
	}
}

func TestCodes(t *testing.T) {
	reg := prometheus.NewPedanticRegistry()
	c, err := NewClient("order", reg)
	if err != nil {
		t.Fatal(err)
	}
	report := c.Peer(func(context.Context) string { return "inventory" })
	for _, err := range []error{nil, status.Error(codes.Aborted, ""), context.DeadlineExceeded, errors.New("x"), status.Error(99, "")} {
		r, _ := report(t.Context(), hold)
		r.PostCall(err, time.Millisecond)
	}
	var want strings.Builder
	want.WriteString("# HELP grpc_client_handled_total Calls ended on the client, by status code.\n# TYPE grpc_client_handled_total counter\n")
	for _, code := range []codes.Code{codes.Aborted, codes.DeadlineExceeded, codes.Internal, codes.OK, codes.Unknown} {
		fmt.Fprintf(&want, "grpc_client_handled_total{callee=\"inventory\",caller=\"order\",grpc_code=%q,grpc_method=\"Hold\",grpc_service=\"s\",grpc_type=\"unary\"} 1\n", code)
	}
	if err := testutil.GatherAndCompare(reg, strings.NewReader(want.String()), "grpc_client_handled_total"); err != nil {
		t.Error(err)
	}
}

func TestAKnownEdgeCostsOneAllocation(t *testing.T) {
	c, err := NewServer("inventory", prometheus.NewRegistry())
	if err != nil {
		t.Fatal(err)
	}
	report := c.Peer(func(context.Context) string { return "order" })
	if n := testing.AllocsPerRun(200, func() {
		r, _ := report(context.Background(), hold)
		r.PostCall(nil, time.Millisecond)
	}); n > 1 {
		t.Errorf("%v allocations a call, want 1", n)
	}
}
