package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"

	"spillway.dev/platform/boot"
	"spillway.dev/platform/knobs"
	"spillway.dev/platform/problem"
	bankv1 "spillway.dev/proto/gen/spillway/bank/v1"
)

// serve runs a bank's RPCs on loopback.
func serve(t *testing.T, cfg *config, now func() time.Time) (*server, bankv1.BankServiceClient) {
	t.Helper()
	return serveWith(t, cfg, knobs.NewSet(), now)
}

func serveWith(t *testing.T, cfg *config, set *knobs.Set, now func() time.Time) (*server, bankv1.BankServiceClient) {
	t.Helper()
	l, _ := open(t, t.TempDir())
	srv := grpc.NewServer()
	registrar := &capture{ServiceRegistrar: srv}
	if err := register(registrar, l, newQuota(cfg.QuotaPerSecond, now()), cfg, set, prometheus.NewRegistry(), now); err != nil {
		t.Fatal(err)
	}
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	go srv.Serve(lis)
	t.Cleanup(srv.Stop)
	return registrar.server, dial(t, lis.Addr().String())
}

type capture struct {
	grpc.ServiceRegistrar
	server *server
}

func (c *capture) RegisterService(d *grpc.ServiceDesc, impl any) {
	c.server = impl.(*server)
	c.ServiceRegistrar.RegisterService(d, impl)
}

func dial(t *testing.T, addr string) bankv1.BankServiceClient {
	t.Helper()
	conn, err := grpc.NewClient(addr, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return bankv1.NewBankServiceClient(conn)
}

func TestQuotaIsRefusedWithReason(t *testing.T) {
	now := time.Unix(1000, 0)
	srv, bank := serve(t, &config{QuotaPerSecond: 2, Concurrency: 1}, func() time.Time { return now })
	for i := range 2 {
		if _, err := bank.Charge(t.Context(), charge(fmt.Sprintf("ref-%04d", i), 700)); err != nil {
			t.Fatal(err)
		}
	}
	_, err := bank.Charge(t.Context(), charge("ref-0009", 700))
	p := problem.From(err)
	if p == nil || p.Code != codes.ResourceExhausted || p.Reason != reasonQuotaExceeded || !p.Retryable || p.RetryAfter != 500*time.Millisecond {
		t.Fatalf("charge above the quota: %+v", p)
	}
	// Refunds are free of the rate.
	got, err := bank.Refund(t.Context(), &bankv1.RefundRequest{Reference: "ref-0009"})
	if err != nil || got.GetTransaction().GetState() != voided {
		t.Fatalf("refund of what was refused: %v, %v; want VOIDED, since nothing was charged", got, err)
	}
	srv.slots <- struct{}{} // one call is between books and disk
	_, err = bank.Refund(t.Context(), &bankv1.RefundRequest{Reference: "ref-0001"})
	if p := problem.From(err); p == nil || p.Reason != reasonQuotaExceeded || p.Metadata["limit"] != limitConcurrency {
		t.Fatalf("refund above the concurrency: %+v", p)
	}
	<-srv.slots
	for limit, want := range map[string]float64{limitRate: 1, limitConcurrency: 1} {
		if got := testutil.ToFloat64(srv.breaches.WithLabelValues(limit)); got != want {
			t.Errorf("breaches of %s: %v, want %v", limit, got, want)
		}
	}
}

func list(t *testing.T, bank bankv1.BankServiceClient) map[string]*bankv1.Transaction {
	t.Helper()
	stream, err := bank.ListTransactions(t.Context(), &bankv1.ListTransactionsRequest{})
	if err != nil {
		t.Fatal(err)
	}
	books := map[string]*bankv1.Transaction{}
	for {
		resp, err := stream.Recv()
		if err == io.EOF {
			return books
		}
		if err != nil {
			t.Fatal(err)
		}
		x := resp.GetTransaction()
		if books[x.GetReference()] != nil {
			t.Errorf("reference %s is listed twice", x.GetReference())
		}
		books[x.GetReference()] = x
	}
}

func TestListTransactions(t *testing.T) {
	_, bank := serve(t, &config{QuotaPerSecond: 1000, Concurrency: 10}, time.Now)
	if books := list(t, bank); len(books) != 0 {
		t.Errorf("books of a new bank: %v", books)
	}
	if _, err := bank.Charge(t.Context(), charge("ref-0001", 700)); err != nil {
		t.Fatal(err)
	}
	_, err := bank.Charge(t.Context(), &bankv1.ChargeRequest{Reference: "ref-0002", AmountCents: 1, CardToken: "tok_declined"})
	if p := problem.From(err); p == nil || p.Code != codes.FailedPrecondition || p.Reason != reasonCardDeclined {
		t.Errorf("refused card: %+v", p)
	}
	books := list(t, bank)
	if len(books) != 2 || books["ref-0001"].GetState() != captured || books["ref-0002"].GetState() != declined {
		t.Errorf("books: %v", books)
	}
}

// childVariable makes this test binary run as a bank, see TestMain.
const childVariable = "BANK_TEST_CHILD"

// child is a bank in a process of its own.
type child struct {
	cmd  *exec.Cmd
	addr string
}

func start(t *testing.T, dir string) *child {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), childVariable+"=1", "SPILLWAY_BANK_JOURNAL_DIR="+dir,
		"SPILLWAY_GRPC_ADDR=127.0.0.1:0", "SPILLWAY_ADMIN_ADDR=127.0.0.1:0",
		"SPILLWAY_BANK_QUOTA_PER_SECOND=1000000", "SPILLWAY_BANK_CONCURRENCY=1000", "SPILLWAY_CAPACITY_SERVICE_TIME=0s")
	stderr, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	c := &child{cmd: cmd}
	t.Cleanup(c.kill)
	lines := bufio.NewScanner(stderr)
	serving := false
	for !serving && lines.Scan() {
		var line struct{ Msg, Grpc string }
		if json.Unmarshal(lines.Bytes(), &line) != nil {
			continue
		}
		if line.Msg == "listening" {
			c.addr = line.Grpc
		}
		serving = line.Msg == "serving"
	}
	if !serving || c.addr == "" {
		t.Fatal("the bank did not come up")
	}
	go io.Copy(io.Discard, stderr)
	return c
}

// kill is kill -9. It may be called twice.
func (c *child) kill() {
	c.cmd.Process.Kill()
	c.cmd.Wait()
}

// A bank killed with -9 under load, three times: what it acknowledged is in the
// books of the next one, once.
func TestKill(t *testing.T) {
	dir := t.TempDir()
	var mu sync.Mutex
	acknowledged := map[string]int64{}
	for round := range 3 {
		c := start(t, dir)
		bank := dial(t, c.addr)
		ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
		var wg sync.WaitGroup
		enough := make(chan struct{}, 1)
		for w := range 8 {
			wg.Go(func() {
				for i := 0; ctx.Err() == nil; i++ {
					req := charge(fmt.Sprintf("ref-%d-%d-%d", round, w, i), int64(1+i))
					if _, err := bank.Charge(ctx, req); err != nil {
						return // killed
					}
					mu.Lock()
					acknowledged[req.GetReference()] = req.GetAmountCents()
					n := len(acknowledged)
					mu.Unlock()
					if n >= 200*(round+1) {
						select {
						case enough <- struct{}{}:
						default:
						}
					}
				}
			})
		}
		select {
		case <-enough:
		case <-ctx.Done():
			t.Error("200 charges took more than 30 s")
		}
		c.kill()
		cancel()
		wg.Wait()
	}
	c := start(t, dir)
	books := list(t, dial(t, c.addr))
	for ref, amount := range acknowledged {
		if x := books[ref]; x.GetState() != captured || x.GetAmountCents() != amount || x.GetCaptures() != 1 {
			t.Errorf("acknowledged %s over %d, the books say %v", ref, amount, x)
		}
	}
	t.Logf("%d charges acknowledged, %d in the books", len(acknowledged), len(books))
}

func TestConfigurationIsChecked(t *testing.T) {
	for env, want := range map[string]string{
		"": "SPILLWAY_BANK_JOURNAL_DIR",
		"SPILLWAY_BANK_JOURNAL_DIR=x SPILLWAY_BANK_CONCURRENCY=0":       "SPILLWAY_BANK_CONCURRENCY=0",
		"SPILLWAY_BANK_JOURNAL_DIR=x SPILLWAY_BANK_QUOTA_PER_SECOND=-1": "SPILLWAY_BANK_QUOTA_PER_SECOND=-1",
		"SPILLWAY_BANK_JOURNAL_DIR=x SPILLWAY_BANK_QUOTA=1":             "SPILLWAY_BANK_QUOTA",
	} {
		var stderr strings.Builder
		err := boot.Run(t.Context(), spec(), strings.Fields(env), &stderr)
		if err == nil || !strings.Contains(stderr.String(), want) {
			t.Errorf("%q: error %v, stderr %q; want a line that names %s", env, err, stderr.String(), want)
		}
	}
}

func TestQuotaIsAKnob(t *testing.T) {
	set, now := knobs.NewSet(), time.Unix(1000, 0)
	srv, _ := serveWith(t, &config{QuotaPerSecond: 100, Concurrency: 1}, set, func() time.Time { return now })
	burst := func(values map[string]string) (n int) {
		if err := set.Apply(values); err != nil {
			t.Fatal(err)
		}
		now = now.Add(time.Hour)
		for {
			if _, ok := srv.quota.admit(now); !ok {
				return n
			}
			n++
		}
	}
	for _, want := range []int{5, 200} {
		if n := burst(map[string]string{"bank.quota_per_second": strconv.Itoa(want)}); n != want {
			t.Errorf("with a quota of %d the bank takes %d at once", want, n)
		}
	}
	if n := burst(nil); n != 100 {
		t.Errorf("with the knob put back the bank takes %d at once, want the 100 of its environment", n)
	}
	for _, value := range []string{"0", "-1", "many", "1000001"} {
		if err := set.Apply(map[string]string{"bank.quota_per_second": value}); err == nil {
			t.Errorf("a quota of %s was taken", value)
		}
	}
}
