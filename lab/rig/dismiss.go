package rig

import (
	"context"
	"io"
	"net/http"
	"sync"
	"time"

	"spillway.dev/lab/engine/local"
)

// dismissEvery is how soon a replica that has drained is dismissed.
const dismissEvery = 100 * time.Millisecond

// dismiss reads the figures of every target again and again until ctx ends: who
// waits for a last scrape has had it.
func dismiss(ctx context.Context, targets func() []local.Target) {
	transport := &http.Transport{DisableKeepAlives: true}
	defer transport.CloseIdleConnections()
	client := &http.Client{Transport: transport, Timeout: time.Second}
	ticker := time.NewTicker(dismissEvery)
	defer ticker.Stop()
	for {
		var all sync.WaitGroup
		for _, t := range targets() {
			all.Go(func() {
				req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+t.Address+"/metrics", nil)
				if err != nil {
					return
				}
				if resp, err := client.Do(req); err == nil { // else it is gone, or not there yet
					_, _ = io.Copy(io.Discard, resp.Body)
					resp.Body.Close()
				}
			})
		}
		all.Wait()
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
	}
}
