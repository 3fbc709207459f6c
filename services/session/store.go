package main

import (
	"fmt"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"spillway.dev/platform/boot"
	"spillway.dev/platform/session"
)

// open makes the store that the configuration names.
func open(app *boot.App, cfg *config) (store, error) {
	if cfg.Store == inRedis {
		s := session.NewStore(app.Redis(cfg.RedisAddr), cfg.lifetime())
		app.Dependency("redis", s.Connect)
		return s, nil
	}
	app.Log().Warn("sessions are kept in this replica's memory: they are lost with it, and no other replica knows them")
	s := session.NewMemory(cfg.lifetime(), time.Now)
	err := app.Registerer().Register(prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "spillway_session_held",
		Help: "Sessions in this replica's memory, which are lost when it ends.",
	}, func() float64 { return float64(s.Len()) }))
	if err != nil {
		return nil, fmt.Errorf("register the metrics of sessions: %w", err)
	}
	return s, nil
}
