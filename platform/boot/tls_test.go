package boot_test

import (
	"context"
	"io"
	"net/http"
	"strings"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"spillway.dev/platform/boot"
	"spillway.dev/platform/boot/boottest"
	"spillway.dev/platform/identity"
	"spillway.dev/platform/tlsfiles/tlstest"
)

// TestServicesCallEachOtherByMutualTLS runs a gateway and what it calls. People come to the gateway in plaintext, by gRPC
// and through its loopback, and nobody comes to the other without a certificate.
func TestServicesCallEachOtherByMutualTLS(t *testing.T) {
	authority := tlstest.NewAuthority(t)
	callers := &diary{}
	inventory := &service{do: func(ctx context.Context, text string) (string, error) {
		callers.note(identity.Caller(ctx))
		return "held " + text, nil
	}}
	callee := boottest.Start(t, boot.Spec{Name: "inventory", Build: func(_ context.Context, app *boot.App) error {
		inventory.register(app.Server())
		return nil
	}}, "SPILLWAY_TLS_DIR="+authority.Dir(t, "inventory"))
	callee.Line("serving")

	people := &diary{}
	var loopback *grpc.ClientConn
	gateway := boottest.Start(t, boot.Spec{Name: "gateway", Edge: true, Build: func(_ context.Context, app *boot.App) error {
		conn, err := app.Dial("inventory", callee.Addr("grpc"))
		if err != nil {
			return err
		}
		edge := &service{do: func(ctx context.Context, text string) (string, error) {
			people.note(identity.Caller(ctx))
			return do(ctx, conn, text)
		}}
		edge.register(app.Server())
		loopback, err = app.Loopback()
		return err
	}}, "SPILLWAY_TLS_DIR="+authority.Dir(t, "gateway"))
	gateway.WaitServing() // over plaintext
	for name, conn := range map[string]*grpc.ClientConn{"from outside": gateway.Conn, "through loopback": loopback} {
		if text, err := do(t.Context(), conn, "seat 1"); err != nil || text != "held seat 1" {
			t.Errorf("%s: %q, %v", name, text, err)
		}
	}
	if got := strings.Join(callers.read(), " "); got != "gateway gateway" {
		t.Errorf("inventory was called by %q", got)
	}
	if got := strings.Join(people.read(), " "); got != "external external" {
		t.Errorf("the gateway was called by %q", got)
	}
	if _, err := do(t.Context(), callee.Conn, ""); status.Code(err) != codes.Unavailable {
		t.Errorf("a call in plaintext: %v", err)
	}
	// A kubelet's probes come without TLS.
	for path, want := range map[string]int{"/healthz": http.StatusOK, "/livez": http.StatusOK} {
		if got := get(t, callee, path); got != want {
			t.Errorf("%s answers %d", path, got)
		}
	}
}

// get is the HTTP status of a path of the admin port.
func get(t *testing.T, r *boottest.Replica, path string) int {
	t.Helper()
	resp, err := http.Get("http://" + r.Addr("admin") + path)
	if err != nil {
		t.Fatal(err)
	}
	defer http.DefaultClient.CloseIdleConnections()
	defer resp.Body.Close()
	return resp.StatusCode
}

// TestLivesBeforeItServes: what is not ready yet is alive.
func TestLivesBeforeItServes(t *testing.T) {
	r := boottest.Start(t, spec(&service{}, func(app *boot.App) error {
		app.Require("something", func(context.Context) error { return io.EOF })
		return nil
	}))
	if ready, alive := get(t, r, "/healthz"), get(t, r, "/livez"); ready != http.StatusServiceUnavailable || alive != http.StatusOK {
		t.Errorf("/healthz answers %d, /livez %d", ready, alive)
	}
}

func TestStartNamesTheCertificateThatIsWrong(t *testing.T) {
	dir := tlstest.NewAuthority(t).Dir(t, "payment")
	err := boot.Run(t.Context(), spec(&service{}, nil), []string{
		"SPILLWAY_GRPC_ADDR=127.0.0.1:0", "SPILLWAY_ADMIN_ADDR=127.0.0.1:0", "SPILLWAY_TLS_DIR=" + dir}, io.Discard)
	for _, want := range []string{`SPILLWAY_TLS_DIR="` + dir + `" (leave it empty for plaintext)`, dir + "/tls.crt", `give a certificate with the DNS name "example"`} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v does not say %s", err, want)
		}
	}
}
