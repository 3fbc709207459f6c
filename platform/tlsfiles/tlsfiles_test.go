package tlsfiles_test

import (
	"context"
	"crypto/x509"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"
	"google.golang.org/grpc/test/bufconn"

	"spillway.dev/platform/identity"
	"spillway.dev/platform/tlsfiles"
	"spillway.dev/platform/tlsfiles/tlstest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func open(t *testing.T, dir, name string) *tlsfiles.Files {
	t.Helper()
	f, err := tlsfiles.Open(dir, name, prometheus.NewRegistry(), slog.New(slog.NewTextHandler(t.Output(), nil)))
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// callee answers with whom it takes the caller for, and knows the serial number of the certificate that it was shown last.
type callee struct {
	healthpb.UnimplementedHealthServer
	mu     sync.Mutex
	serial string
}

func (c *callee) Check(ctx context.Context, _ *healthpb.HealthCheckRequest) (*healthpb.HealthCheckResponse, error) {
	ctx, err := identity.FromIncoming(ctx)
	if err != nil {
		return nil, err
	}
	if err := grpc.SetHeader(ctx, metadata.Pairs("taken-for", identity.Caller(ctx))); err != nil {
		return nil, err
	}
	if p, _ := peer.FromContext(ctx); p != nil {
		if info, ok := p.AuthInfo.(credentials.TLSInfo); ok && len(info.State.PeerCertificates) > 0 {
			c.mu.Lock()
			defer c.mu.Unlock()
			c.serial = info.State.PeerCertificates[0].SerialNumber.String()
		}
	}
	return &healthpb.HealthCheckResponse{}, nil
}

func (c *callee) shown() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.serial
}

func serve(t *testing.T, lis net.Listener, creds credentials.TransportCredentials) *callee {
	t.Helper()
	c, server := &callee{}, grpc.NewServer(grpc.Creds(creds))
	healthpb.RegisterHealthServer(server, c)
	var serving sync.WaitGroup
	serving.Go(func() {
		if err := server.Serve(lis); err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(func() {
		server.Stop()
		serving.Wait()
	})
	return c
}

func listen(t *testing.T) net.Listener {
	t.Helper()
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return lis
}

// call calls once over a connection of its own. It tells whom the callee takes the caller for, and the serial number of
// the certificate that the callee has shown.
func call(t *testing.T, target string, creds credentials.TransportCredentials, name string, more ...grpc.DialOption) (caller, serial string, err error) {
	t.Helper()
	conn, err := grpc.NewClient(target, append(more, grpc.WithTransportCredentials(creds))...)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	if name != "" {
		ctx = identity.Outgoing(ctx, name)
	}
	var header metadata.MD
	var p peer.Peer
	_, err = healthpb.NewHealthClient(conn).Check(ctx, &healthpb.HealthCheckRequest{}, grpc.Header(&header), grpc.Peer(&p))
	if info, ok := p.AuthInfo.(credentials.TLSInfo); ok {
		serial = info.State.PeerCertificates[0].SerialNumber.String()
	}
	return strings.Join(header.Get("taken-for"), ","), serial, err
}

// refused tells that a connection did not come about, and for what reason.
func refused(t *testing.T, what string, err error, reasons ...string) {
	t.Helper()
	if status.Code(err) != codes.Unavailable {
		t.Errorf("%s: %v, want UNAVAILABLE", what, err)
		return
	}
	for _, reason := range reasons {
		if strings.Contains(err.Error(), reason) {
			return
		}
	}
	t.Errorf("%s: %v, want one of %q", what, err, reasons)
}

func TestServicesKnowEachOther(t *testing.T) {
	mesh, other := tlstest.NewAuthority(t), tlstest.NewAuthority(t)
	lis := listen(t)
	serve(t, lis, open(t, mesh.Dir(t, "inventory"), "inventory").Server(false))
	order := open(t, mesh.Dir(t, "order"), "order")
	target := lis.Addr().String()

	if caller, _, err := call(t, target, order.Client("inventory"), "order"); err != nil || caller != "order" {
		t.Errorf("a call of order's comes from %q: %v", caller, err)
	}
	if caller, _, err := call(t, target, order.Client("inventory"), ""); err != nil || caller != "order" {
		t.Errorf("a call without a name comes from %q: %v", caller, err)
	}
	_, _, err := call(t, target, order.Client("inventory"), "payment")
	if status.Code(err) != codes.InvalidArgument || !strings.Contains(err.Error(), `names payment, and the caller's certificate is for ["order"]`) {
		t.Errorf("with a forged name: %v", err)
	}
	_, _, err = call(t, target, order.Client("payment"), "order")
	refused(t, "who wanted payment and met inventory", err, "certificate is valid for inventory, not payment")
	_, _, err = call(t, target, insecure.NewCredentials(), "order")
	refused(t, "plaintext", err, "")
	// The server's word reaches a client of TLS 1.3 after its own side of the handshake, or not before the connection's end.
	aborted := []string{"certificate required", "bad certificate", "unknown certificate authority", "connection reset", "broken pipe", "EOF"}
	_, _, err = call(t, target, credentials.NewClientTLSFromCert(mesh.Pool(), "inventory"), "order")
	refused(t, "without a certificate", err, aborted...)
	stranger := open(t, other.Dir(t, "order"), "order")
	_, _, err = call(t, target, stranger.Client("inventory"), "order")
	refused(t, "a callee of another authority", err, "certificate signed by unknown authority")
	// It trusts the mesh, and the mesh does not trust it.
	trusting := open(t, other.Dir(t, "order", mesh), "order")
	_, _, err = call(t, target, trusting.Client("inventory"), "order")
	refused(t, "a caller of another authority", err, aborted...)
}

func TestEdgeTakesWhoHasNoCertificate(t *testing.T) {
	mesh, other := tlstest.NewAuthority(t), tlstest.NewAuthority(t)
	lis := listen(t)
	gateway := open(t, mesh.Dir(t, "gateway"), "gateway")
	serve(t, lis, gateway.Server(true))
	target := lis.Addr().String()
	for name, creds := range map[string]credentials.TransportCredentials{
		"plaintext": insecure.NewCredentials(),
		"TLS":       credentials.NewClientTLSFromCert(mesh.Pool(), "gateway"),
	} {
		if caller, _, err := call(t, target, creds, ""); err != nil || caller != identity.External {
			t.Errorf("%s: a call comes from %q: %v", name, caller, err)
		}
	}
	order := open(t, mesh.Dir(t, "order"), "order")
	if caller, _, err := call(t, target, order.Client("gateway"), ""); err != nil || caller != "order" {
		t.Errorf("with a certificate a call comes from %q: %v", caller, err)
	}
	stranger := open(t, other.Dir(t, "order", mesh), "order")
	if _, _, err := call(t, target, stranger.Client("gateway"), ""); status.Code(err) != codes.Unavailable {
		t.Errorf("a certificate that nobody knows: %v", err)
	}
}

func TestWithinTheProcessIsPlaintext(t *testing.T) {
	lis := bufconn.Listen(1 << 16)
	serve(t, lis, open(t, tlstest.NewAuthority(t).Dir(t, "order"), "order").Server(false))
	dial := grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return lis.DialContext(ctx) })
	if caller, _, err := call(t, "passthrough:///loopback", insecure.NewCredentials(), "", dial); err != nil || caller != identity.External {
		t.Errorf("a call comes from %q: %v", caller, err)
	}
}

// TestRenewedFilesAreTakenUp renews both ends' certificates, and then the authority, as a kubelet does.
func TestRenewedFilesAreTakenUp(t *testing.T) {
	authority := tlstest.NewAuthority(t)
	callees, callers := authority.Dir(t, "inventory"), authority.Dir(t, "order")
	inventory, order := open(t, callees, "inventory"), open(t, callers, "order")
	var watching sync.WaitGroup
	defer watching.Wait()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	for _, f := range []*tlsfiles.Files{inventory, order} {
		watching.Go(func() { f.Watch(ctx, time.Millisecond) })
	}
	lis := listen(t)
	server := serve(t, lis, inventory.Server(false))
	conn, err := grpc.NewClient(lis.Addr().String(), grpc.WithTransportCredentials(order.Client("inventory")))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	stays := func() {
		t.Helper()
		if _, err := healthpb.NewHealthClient(conn).Check(t.Context(), &healthpb.HealthCheckRequest{}); err != nil {
			t.Errorf("over the connection from before: %v", err)
		}
	}
	// taken waits until a new connection is made with the two certificates.
	taken := func(callee, caller *x509.Certificate) {
		t.Helper()
		want := [2]string{callee.SerialNumber.String(), caller.SerialNumber.String()}
		var got [2]string
		var err error
		for late := time.Now().Add(30 * time.Second); time.Now().Before(late); {
			if _, got[0], err = call(t, lis.Addr().String(), order.Client("inventory"), "order"); err == nil {
				if got[1] = server.shown(); got == want {
					return
				}
			}
		}
		t.Fatalf("not in 30 s: connections with the certificates %v; they have %v, %v", want, got, err)
	}
	taken(tlstest.Leaf(t, callees), tlstest.Leaf(t, callers))
	stays()

	authority.Renew(t, callees, "inventory")
	authority.Renew(t, callers, "order")
	taken(tlstest.Leaf(t, callees), tlstest.Leaf(t, callers))
	stays()

	// A new authority: first all trust both, then they get its certificates.
	next := tlstest.NewAuthority(t)
	for _, signer := range []*tlstest.Authority{authority, next} {
		authority.Renew(t, callees, "inventory", next)
		signer.Renew(t, callers, "order", authority, next)
		taken(tlstest.Leaf(t, callees), tlstest.Leaf(t, callers))
	}
	next.Renew(t, callees, "inventory")
	taken(tlstest.Leaf(t, callees), tlstest.Leaf(t, callers))
	stays()
}

// lines is a log of which each line is one value.
type lines chan string

func (l lines) Write(p []byte) (int, error) {
	l <- string(p)
	return len(p), nil
}

// TestWhatCannotBeUsedIsNotTakenUp: the certificate from before stays.
func TestWhatCannotBeUsedIsNotTakenUp(t *testing.T) {
	authority := tlstest.NewAuthority(t)
	dir := authority.Dir(t, "order")
	log := make(chan string, 8)
	registry := prometheus.NewRegistry()
	f, err := tlsfiles.Open(dir, "order", registry, slog.New(slog.NewTextHandler(lines(log), nil)))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	var watching sync.WaitGroup
	watching.Go(func() { f.Watch(ctx, time.Millisecond) })
	defer watching.Wait()
	defer cancel()
	before := tlstest.Leaf(t, dir)
	authority.Renew(t, dir, "payment")
	if line := <-log; !strings.Contains(line, "cannot be used") || !strings.Contains(line, "not order") {
		t.Errorf("it logs %s", line)
	}
	lis := listen(t)
	serve(t, lis, f.Server(false))
	caller := open(t, authority.Dir(t, "gateway"), "gateway")
	if _, serial, err := call(t, lis.Addr().String(), caller.Client("order"), "gateway"); err != nil || serial != before.SerialNumber.String() {
		t.Errorf("certificate %s, %v; want that from before, %s", serial, err, before.SerialNumber)
	}
	authority.Renew(t, dir, "order")
	if line := <-log; !strings.Contains(line, "certificate renewed") {
		t.Errorf("it logs %s, want nothing twice and then that the certificate is renewed", line)
	}
	const metric = "spillway_tls_certificate_expiry_timestamp_seconds"
	families, err := registry.Gather()
	if err != nil || len(families) != 1 || families[0].GetName() != metric {
		t.Fatalf("metrics are %v, %v", families, err)
	}
	if ends, want := families[0].GetMetric()[0].GetGauge().GetValue(), tlstest.Leaf(t, dir).NotAfter.Unix(); int64(ends) != want {
		t.Errorf("the certificate ends at %.0f, want %d", ends, want)
	}
}

func TestOpenNamesTheFileAndTheRemedy(t *testing.T) {
	authority, other := tlstest.NewAuthority(t), tlstest.NewAuthority(t)
	write := func(t *testing.T, dir, name, text string) string {
		t.Helper()
		path := filepath.Join(dir, name)
		if err := os.Remove(path); err != nil { // a symbolic link
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return dir
	}
	for name, test := range map[string]struct {
		dir  func(t *testing.T) string
		want []string
	}{
		"no directory": {func(t *testing.T) string { return filepath.Join(t.TempDir(), "none") }, []string{"tls.crt", "must hold tls.crt, tls.key and ca.crt"}},
		"no key": {func(t *testing.T) string {
			dir := authority.Dir(t, "order")
			if err := os.Remove(filepath.Join(dir, "tls.key")); err != nil {
				t.Fatal(err)
			}
			return dir
		}, []string{"tls.key", "must hold"}},
		"no certificate": {func(t *testing.T) string { return write(t, authority.Dir(t, "order"), "tls.crt", "x") }, []string{"tls.crt with tls.key", "both as PEM"}},
		"another's key": {func(t *testing.T) string {
			key, err := os.ReadFile(filepath.Join(authority.Dir(t, "order"), "tls.key"))
			if err != nil {
				t.Fatal(err)
			}
			return write(t, authority.Dir(t, "order"), "tls.key", string(key))
		}, []string{"tls.crt with tls.key", "its own private key"}},
		"no authority":      {func(t *testing.T) string { return write(t, authority.Dir(t, "order"), "ca.crt", "") }, []string{"ca.crt: it has no certificate"}},
		"another authority": {func(t *testing.T) string { return write(t, authority.Dir(t, "order"), "ca.crt", other.PEM()) }, []string{"tls.crt", "that an authority in ca.crt has signed"}},
		"another name":      {func(t *testing.T) string { return authority.Dir(t, "payment") }, []string{"tls.crt", `with the DNS name "order"`}},
		"it has ended":      {func(t *testing.T) string { return authority.With(tlstest.Ended).Dir(t, "order") }, []string{"tls.crt", "renew it"}},
		"for servers alone": {func(t *testing.T) string { return authority.With(tlstest.ServersOnly).Dir(t, "order") }, []string{"tls.crt", "server auth and client auth"}},
	} {
		t.Run(name, func(t *testing.T) {
			dir := test.dir(t)
			_, err := tlsfiles.Open(dir, "order", prometheus.NewRegistry(), slog.New(slog.DiscardHandler))
			for _, want := range append(test.want, dir) {
				if err == nil || !strings.Contains(err.Error(), want) {
					t.Errorf("%v does not say %q", err, want)
				}
			}
		})
	}
}
