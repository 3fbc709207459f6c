package local

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"spillway.dev/lab/engine/local/process"
	"spillway.dev/lab/engine/local/store"
)

// The stores, as StopStore and StartStore call them.
const (
	redisName = "redis"
	natsName  = "nats"
)

// redisStart bounds how long redis-server takes to read what it has on disk.
const redisStart = 30 * time.Second

// passing is the directory of what ends with the engine.
const passing = "passing"

// startStores starts NATS and Redis beside each other. Without a redis-server
// nothing is kept: orders that outlive their seats would sell these again.
func (e *Engine) startStores(ctx context.Context) error {
	e.redisPath, e.redisKind, e.keeps = store.FindRedis(ctx)
	if err := os.RemoveAll(filepath.Join(e.dir.path, passing)); err != nil {
		return fmt.Errorf("remove what an engine without redis-server left: %w", err)
	}
	var both sync.WaitGroup
	var natsErr, redisErr error
	both.Go(func() { natsErr = e.startNATS() })
	both.Go(func() { redisErr = e.startRedis(ctx) })
	both.Wait()
	return errors.Join(natsErr, redisErr)
}

// kept makes a directory for what outlives the engine, if anything does.
func (e *Engine) kept(names ...string) (string, error) {
	if !e.keeps {
		names = append([]string{passing}, names...)
	}
	return e.dir.sub(names...)
}

func (e *Engine) startNATS() error {
	p, err := e.ports.Get()
	if err != nil {
		return err
	}
	e.natsPort = p
	if err := e.runNATS(); err != nil {
		return err
	}
	e.natsURL = e.nats.URL()
	e.events.post(Event{Kind: EventStore, Text: fmt.Sprintf("NATS JetStream %s, embedded, at %s", e.nats.Version(), e.natsURL)})
	return nil
}

func (e *Engine) runNATS() error {
	dir, err := e.kept(natsName)
	if err != nil {
		return err
	}
	e.nats, err = store.StartNATS(e.natsPort, dir, e.options.Log)
	return err
}

func (e *Engine) startRedis(ctx context.Context) error {
	p, err := e.ports.Get()
	if err != nil {
		return err
	}
	e.redisAddr = fmt.Sprintf("%s:%d", host, p)
	if !e.keeps {
		if e.miniredis, err = store.StartMiniRedis(p); err != nil {
			return err
		}
		e.redisKind = "miniredis"
		e.events.post(Event{Kind: EventStore, Text: fmt.Sprintf("miniredis, embedded, at %s: no redis-server on the PATH; nothing is kept, each start sells anew", e.redisAddr)})
		if e.redisConf() != "" {
			e.events.post(Event{Kind: EventIgnored, Text: "without effect on miniredis: ConfigMap " + redisName})
		}
		return nil
	}
	dir, err := e.dir.sub(redisName)
	if err != nil {
		return err
	}
	e.redisLog = e.logs.Writer(redisName, redisName)
	report := func(text string) {
		e.events.post(Event{Kind: EventStore, Text: "redis-server: " + text})
	}
	e.redis, err = keep(report, func() (*process.Process, error) {
		conf := filepath.Join(dir, "redis.conf")
		if err := writeFile(conf, []byte(e.redisConf())); err != nil {
			return nil, err
		}
		return e.spawner.Start(process.Spec{Name: redisName, Path: e.redisPath, Args: store.RedisArgs(conf, p, dir), Dir: dir, Output: e.redisLog})
	})
	if err != nil {
		return err
	}
	if err := e.awaitRedis(ctx); err != nil {
		return fmt.Errorf("%w; it printed: %v", err, e.logs.Tail(redisName, 5))
	}
	e.events.post(Event{Kind: EventStore, Text: fmt.Sprintf("%s, from the PATH, at %s", e.redisKind, e.redisAddr)})
	return nil
}

// redisConf is what the manifests say in Redis' own words: key redis.conf of
// ConfigMap redis. It holds from a start of Redis on.
func (e *Engine) redisConf() string {
	e.mu.Lock()
	defer e.mu.Unlock()
	if c := e.manifests.ConfigMaps[redisName]; c != nil {
		return c.Data["redis.conf"]
	}
	return ""
}

// awaitRedis waits until the process that runs now answers, and gives up when it
// has ended: what it does not like in its configuration it will not like again.
func (e *Engine) awaitRedis(ctx context.Context) error {
	wait, cancel := context.WithTimeout(ctx, redisStart)
	var watch sync.WaitGroup
	defer watch.Wait()
	defer cancel()
	if p := e.redis.process(); p != nil {
		watch.Go(func() {
			select {
			case <-p.Done():
			case <-e.hurry:
			case <-wait.Done():
			}
			cancel()
		})
	}
	return store.WaitRedis(wait, e.redisAddr)
}

// StopStore ends "redis", as a crash would, or "nats", which is shut down, and has
// it stay away until StartStore. It returns when the store is gone. A store that is
// stopped stays so.
func (e *Engine) StopStore(_ context.Context, name string) error {
	return e.store(name, func() error {
		switch {
		case name == natsName:
			if e.nats == nil {
				return nil
			}
			e.nats.Close()
			e.nats = nil
			e.events.post(Event{Kind: EventStore, Text: "NATS: stopped, as asked"})
		case e.redis != nil:
			e.redis.hold()
		default:
			e.miniredis.Stop()
			e.events.post(Event{Kind: EventStore, Text: "miniredis: stopped, as asked"})
		}
		return nil
	})
}

// StartStore starts a store that StopStore has stopped, at the same address and
// with what it had kept. It returns when the store answers, or with an error when
// ctx ends first. A store that runs is left alone.
func (e *Engine) StartStore(ctx context.Context, name string) error {
	return e.store(name, func() error {
		switch {
		case name == natsName:
			if e.nats != nil {
				return nil
			}
			if err := e.runNATS(); err != nil {
				return err
			}
			e.events.post(Event{Kind: EventStore, Text: "NATS: started again"})
		case e.redis != nil:
			if !e.redis.release() {
				return nil
			}
			wait, cancel := context.WithTimeout(ctx, redisStart)
			defer cancel()
			if err := store.WaitRedis(wait, e.redisAddr); err != nil {
				return err
			}
			e.events.post(Event{Kind: EventStore, Text: "redis-server: started again"})
		default:
			if err := e.miniredis.Start(); err != nil {
				return err
			}
			e.events.post(Event{Kind: EventStore, Text: "miniredis: started again"})
		}
		return nil
	})
}

// store does something to a store while nobody else does, and not while the mesh
// stops.
func (e *Engine) store(name string, do func() error) error {
	if name != redisName && name != natsName {
		return status.Errorf(codes.NotFound, "no store is called %q; there are %q and %q", name, redisName, natsName)
	}
	e.stores.Lock()
	defer e.stores.Unlock()
	e.mu.Lock()
	stopping := e.stopping
	e.mu.Unlock()
	if stopping {
		return status.Error(codes.FailedPrecondition, "the mesh is stopping")
	}
	return do()
}

// stopStores is the end of both.
func (e *Engine) stopStores() {
	e.stores.Lock()
	defer e.stores.Unlock()
	if e.nats != nil {
		e.nats.Close()
	}
	if e.redis != nil {
		e.redis.close()
		e.redisLog.Close()
	}
	if e.miniredis != nil {
		e.miniredis.Close()
	}
}
