package boot_test

import (
	"context"
	"errors"
	"net"
	"sync"
	"sync/atomic"
	"testing"

	"google.golang.org/grpc"

	"spillway.dev/platform/boot"
	"spillway.dev/platform/boot/boottest"
)

const ready, notReady = "SERVING", "NOT_SERVING"

func TestReadinessLooksAtDependenciesOnlyWhenItIsToldTo(t *testing.T) {
	lis := listenLocal(t, "127.0.0.1:0")
	control := serveKnobs(t, lis)
	var away atomic.Bool
	var asked atomic.Int64
	svc := spec(&service{}, func(app *boot.App) error {
		app.Dependency("store", func(context.Context) error {
			asked.Add(1)
			if away.Load() {
				return errors.New("connection refused")
			}
			return nil
		})
		return nil
	})
	r := boottest.Start(t, svc, "SPILLWAY_CONTROL_TARGET="+lis.Addr().String())
	control.snapshots <- nil
	r.WaitServing()

	told := func(want string) func() bool {
		return func() bool { return statuses(t, r)[""] == want }
	}
	away.Store(true)
	before := asked.Load()
	if got := statuses(t, r); got[""] != ready || asked.Load() != before {
		t.Errorf("shallow and a store away: %v, asked %d times", got, asked.Load()-before)
	}
	control.snapshots <- map[string]string{"health.readiness": "deep"}
	eventually(t, "deep and a store away is not ready", told(notReady))
	if got := statuses(t, r); got[exampleService] != notReady || got["liveness"] != ready || got["startup"] != ready {
		t.Errorf("deep and a store away: %v", got)
	}
	if err := call(t, r.Conn); err != nil {
		t.Errorf("a call that comes all the same: %v", err)
	}
	away.Store(false)
	eventually(t, "the store is back", told(ready))
	away.Store(true)
	eventually(t, "the store is away again", told(notReady))
	control.snapshots <- nil
	eventually(t, "shallow again", told(ready))
}

func TestDeepReadinessCascades(t *testing.T) {
	lis := listenLocal(t, "127.0.0.1:0")
	control := serveKnobs(t, lis)
	address := listenLocal(t, "127.0.0.1:0")
	target := address.Addr().String()
	callee := grpc.NewServer()
	var serving sync.WaitGroup
	serve := func(server *grpc.Server, on net.Listener) {
		serving.Go(func() {
			if err := server.Serve(on); err != nil {
				t.Error(err)
			}
		})
	}
	serve(callee, address)
	r := boottest.Start(t, spec(&service{}, func(app *boot.App) error {
		_, err := app.Dial("inventory", target)
		return err
	}), "SPILLWAY_CONTROL_TARGET="+lis.Addr().String())
	control.snapshots <- map[string]string{"health.readiness": "deep"}
	r.WaitServing()
	callee.Stop()
	eventually(t, "the callee is away", func() bool { return statuses(t, r)[""] == notReady })
	again := grpc.NewServer()
	serve(again, listenLocal(t, target))
	eventually(t, "the callee is back", func() bool { return statuses(t, r)[""] == ready })
	again.Stop()
	serving.Wait()
}
