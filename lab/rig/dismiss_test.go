package rig

import (
	"context"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"go.uber.org/goleak"

	"spillway.dev/lab/engine/local"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// Whoever is there is read, also beside one that is not, until ctx ends.
func TestDismiss(t *testing.T) {
	read := make(chan string)
	replica := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, req *http.Request) { read <- req.URL.Path }))
	defer replica.Close()
	gone := httptest.NewServer(nil)
	gone.Close()
	ctx, cancel := context.WithCancel(t.Context())
	var done sync.WaitGroup
	done.Go(func() {
		dismiss(ctx, func() []local.Target {
			return []local.Target{{Address: strings.TrimPrefix(gone.URL, "http://")}, {Address: strings.TrimPrefix(replica.URL, "http://")}}
		})
	})
	for range 2 {
		if path := <-read; path != "/metrics" {
			t.Errorf("it reads %s", path)
		}
	}
	cancel()
	go func() { // a third reading may be under way
		for range read {
		}
	}()
	done.Wait()
	replica.Close()
	close(read)
}
