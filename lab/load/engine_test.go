package load

import (
	"context"
	"fmt"
	"math"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"

	"spillway.dev/platform/problem"
	enginev1 "spillway.dev/proto/gen/spillway/engine/v1"
	gatewayv1 "spillway.dev/proto/gen/spillway/gateway/v1"
)

// named is an office that lists a show of its own, to tell replicas apart.
func named(name string) *office {
	return &office{list: func(context.Context) (*gatewayv1.ListShowsResponse, error) {
		return &gatewayv1.ListShowsResponse{Shows: []*gatewayv1.Show{{ShowId: name}}}, nil
	}}
}

// heard calls the gateway n times and counts who answered.
func heard(t *testing.T, conn *grpc.ClientConn, n int) map[string]int {
	t.Helper()
	counts := make(map[string]int)
	for range n {
		resp, err := gatewayv1.NewGatewayServiceClient(conn).ListShows(t.Context(), &gatewayv1.ListShowsRequest{}, grpc.WaitForReady(true))
		if err != nil {
			t.Fatal(err)
		}
		counts[resp.Shows[0].ShowId]++
	}
	return counts
}

// eventually waits for a condition, for as long as a busy machine may need.
func eventually(t *testing.T, what string, holds func() bool) {
	t.Helper()
	deadline := time.Now().Add(20 * time.Second)
	for !holds() {
		if time.Now().After(deadline) {
			t.Fatalf("never came true: %s", what)
		}
		time.Sleep(5 * time.Millisecond)
	}
}

func TestReplicasShareTheCallsAndFollowTheEngine(t *testing.T) {
	a, b, c := named("a").open(t), named("b").open(t), named("c").open(t)
	changes := make(chan []string, 1)
	engine := (&steering{watch: func(req *enginev1.WatchEndpointsRequest, stream grpc.ServerStreamingServer[enginev1.WatchEndpointsResponse]) error {
		if req.Service != "gateway" {
			return fmt.Errorf("watches %q", req.Service)
		}
		list := []string{a, b}
		for {
			if err := stream.Send(&enginev1.WatchEndpointsResponse{Addresses: list}); err != nil {
				return err
			}
			select {
			case list = <-changes:
			case <-stream.Context().Done():
				return nil
			}
		}
	}}).client(t)
	conn, closeConn, err := DialReplicas(t.Context(), engine)
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, "a and b share the calls", func() bool {
		got := heard(t, conn, 20)
		return got["a"] == 10 && got["b"] == 10
	})
	changes <- []string{b, c}
	eventually(t, "b and c share the calls", func() bool {
		got := heard(t, conn, 20)
		return got["b"] == 10 && got["c"] == 10
	})
	if err := closeConn(); err != nil {
		t.Error(err)
	}
}

func TestDialReplicasIsBoundedByItsContext(t *testing.T) {
	engine := (&steering{watch: func(_ *enginev1.WatchEndpointsRequest, stream grpc.ServerStreamingServer[enginev1.WatchEndpointsResponse]) error {
		<-stream.Context().Done()
		return nil
	}}).client(t)
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, _, err := DialReplicas(ctx, engine); err == nil {
		t.Error("want an error: the engine never sent a list")
	}
}

// metrics is what a replica exports after n calls of 3 ms lateness and m of 80 ms.
func metrics(n, m int) string {
	return fmt.Sprintf(`# TYPE other counter
other 5
# TYPE spillway_capacity_service_seconds_mean gauge
spillway_capacity_service_seconds_mean 0.05
# TYPE spillway_capacity_lateness_seconds histogram
spillway_capacity_lateness_seconds_bucket{le="0.001"} 0
spillway_capacity_lateness_seconds_bucket{le="0.005"} %d
spillway_capacity_lateness_seconds_bucket{le="0.1"} %d
spillway_capacity_lateness_seconds_bucket{le="+Inf"} %d
spillway_capacity_lateness_seconds_sum %g
spillway_capacity_lateness_seconds_count %d
`, n, n+m, n+m, float64(n)*0.003+float64(m)*0.08, n+m)
}

func TestLatenessIsTheDifferenceOfTwoReadings(t *testing.T) {
	pages := map[string]string{"/order-1": metrics(1000, 0), "/order-2": metrics(100, 100), "/bank-1": "nothing 1\n"}
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprint(w, pages[strings.TrimSuffix(r.URL.Path, "/metrics")])
	}))
	defer srv.Close()
	replica := func(name string, pid int32) *enginev1.Replica {
		return &enginev1.Replica{Name: name, Ready: true, Pid: pid, AdminAddress: strings.TrimPrefix(srv.URL, "http://") + "/" + name}
	}
	replicas := []*enginev1.Replica{replica("order-1", 1), replica("order-2", 2), {Name: "order-9", AdminAddress: "127.0.0.1:1"}}
	engine := (&steering{list: func() *enginev1.ListWorkloadsResponse {
		return &enginev1.ListWorkloadsResponse{Workloads: []*enginev1.Workload{
			{Name: "order", Replicas: replicas}, {Name: "bank", Replicas: []*enginev1.Replica{replica("bank-1", 5)}},
		}}
	}}).client(t)

	before, err := ReadLateness(t.Context(), engine)
	if err != nil {
		t.Fatal(err)
	}
	pages["/order-1"] = metrics(1100, 0) // 100 calls more
	replicas[1] = replica("order-2", 3)  // killed and restarted
	pages["/order-2"] = metrics(90, 10)  // counted from zero
	after, err := ReadLateness(t.Context(), engine)
	if err != nil {
		t.Fatal(err)
	}
	late, note := after.Since(before)
	if len(late) != 1 || late[0].Service != "order" || late[0].Replicas != 2 || late[0].Count != 200 {
		t.Fatalf("got %+v, want 200 calls of two replicas of order", late)
	}
	if want := (190*3 + 10*80.0) / 200; math.Abs(late[0].MeanMS-want) > 1e-9 {
		t.Errorf("mean: got %v ms, want %v ms", late[0].MeanMS, want)
	}
	// Rank 198 of 200 is the 8th of the 10 in the bucket from 5 to 100 ms.
	if want := 5 + 95*0.8; math.Abs(late[0].P99MS-want) > 1e-9 {
		t.Errorf("p99: got %v ms, want %v ms", late[0].P99MS, want)
	}
	// Rank 100 of 200 is the 100th of the 190 in the bucket from 1 to 5 ms.
	if want := 1 + 4*100/190.0; math.Abs(late[0].P50MS-want) > 1e-9 || late[0].ServiceMS != 50 {
		t.Errorf("p50 of %v ms: got %v ms, want %v ms of 50 ms", late[0].ServiceMS, late[0].P50MS, want)
	}
	r := Report{Honest: true}
	if r.Judge(late, note); r.Honest {
		t.Error("a median lateness of 6 % of the service time was called honest")
	}
	if !strings.Contains(note, "1 replicas ended") || !strings.Contains(note, "bank-1") {
		t.Errorf("note: got %q, want the replica that ended and the one that could not be read", note)
	}
}

func TestQuantileAboveTheLastBucketIsItsBound(t *testing.T) {
	h := histogram{count: 10, buckets: map[float64]uint64{0.1: 1, 1: 2}}
	if got := h.quantile(0.99); got != 1 {
		t.Errorf("got %v, want 1", got)
	}
	if got := (histogram{}).quantile(0.5); got != 0 {
		t.Errorf("nothing observed: got %v, want 0", got)
	}
}

func TestReportText(t *testing.T) {
	rec := newRecorder()
	rec.end(begun(rec, Browse, 0, 0), 250*time.Millisecond, time.Second, nil)
	rec.end(begun(rec, Buy, 0, 7*time.Millisecond), 50*time.Millisecond, time.Second, context.DeadlineExceeded)
	rec.end(begun(rec, SeatMap, 0, 0), time.Millisecond, time.Second, problem.New(codes.ResourceExhausted, problem.Overloaded, "x"))
	r := report(Default(), time.Now(), time.Second, true, newPeople(nil, "", 1, nil), rec)
	r.Lateness = []Lateness{{Service: "order", Replicas: 2, Count: 200, MeanMS: 1.5, P50MS: 3, P99MS: 4, ServiceMS: 50}}
	r.LatenessNote = "one could not be read"
	var b strings.Builder
	if err := r.WriteText(&b); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"offered load          3.0 /s", "goodput               1.0 /s", "DEADLINE_EXCEEDED", "p99.9", "cut short", "OVERLOADED", "seatmap",
		"generator lag", "NOT HONEST", "replica lateness", "order                  2       200      1.50      3.00      4.00          50.0", "half of the calls at order", "one could not be read",
	} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("the report lacks %q:\n%s", want, b.String())
		}
	}
}
