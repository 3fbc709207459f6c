package tlsfiles_test

import (
	"context"
	"log/slog"
	"net"
	"sync"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/xds"

	"spillway.dev/platform/mesh"
	"spillway.dev/platform/tlsfiles/tlstest"
)

// TestNamesOfTheMesh calls through the mesh: the control plane leads to an address, and the certificate there must be for
// the name that was asked for.
func TestNamesOfTheMesh(t *testing.T) {
	authority := tlstest.NewAuthority(t)
	lis := listen(t)
	serve(t, lis, open(t, authority.Dir(t, "inventory"), "inventory").Server(false))
	order := open(t, authority.Dir(t, "order"), "order")

	plane, control := mesh.NewControlPlane(slog.New(slog.NewTextHandler(t.Output(), nil))), listen(t)
	at := []mesh.Endpoint{{Address: "127.0.0.1", Port: uint32(lis.Addr().(*net.TCPAddr).Port)}}
	if err := plane.Set(mesh.State{Services: []mesh.Service{{Name: "inventory", Endpoints: at}, {Name: "payment", Endpoints: at}}}); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var serving sync.WaitGroup
	serving.Go(func() {
		if err := plane.Serve(ctx, control); err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(func() {
		cancel()
		serving.Wait()
	})
	resolver, err := xds.NewXDSResolverWithConfigForTesting([]byte(mesh.Bootstrap(control.Addr().String(), "order", "order-1")))
	if err != nil {
		t.Fatal(err)
	}
	if caller, _, err := call(t, "xds:///inventory", order.Client("inventory"), "order", grpc.WithResolvers(resolver)); err != nil || caller != "order" {
		t.Errorf("a call of order's comes from %q: %v", caller, err)
	}
	// The control plane leads to inventory who asks for payment.
	_, _, err = call(t, "xds:///payment", order.Client("payment"), "order", grpc.WithResolvers(resolver))
	refused(t, "who wanted payment and met inventory", err, "certificate is valid for inventory, not payment")
}
