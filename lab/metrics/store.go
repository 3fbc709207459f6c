package metrics

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/config"
	"github.com/prometheus/prometheus/discovery/targetgroup"
	"github.com/prometheus/prometheus/rules"
	"github.com/prometheus/prometheus/scrape"
	"github.com/prometheus/prometheus/tsdb"
	"github.com/prometheus/prometheus/util/compression"

	"spillway.dev/lab/metrics/promapi"
)

// exemplars is how many exemplars a store keeps, the newest; about 100 bytes
// each.
const exemplars = 20_000

// closeGrace bounds how long Close waits for HTTP queries under way, and for a
// start that is not over yet.
const closeGrace = 2 * time.Second

// Store scrapes, keeps and answers while a run goes on. All methods are safe for
// concurrent use.
type Store struct {
	series
	cfg      Config
	db       *tsdb.DB
	scrapes  *scrape.Manager
	rules    *rules.Manager
	listener net.Listener
	server   *http.Server
	mux      *http.ServeMux
	cancel   context.CancelFunc
	running  sync.WaitGroup
	updates  chan map[string][]*targetgroup.Group // the latest one not yet taken
	closing  atomic.Bool
	close    func() error

	mu   sync.Mutex
	mesh []Target
	lab  map[string]Target
}

// Open opens the store in cfg.Dir and starts to evaluate rules; targets are yet
// to be set. ctx bounds the opening only. A rule file that cannot be read or
// parsed is an error that names its place.
func Open(ctx context.Context, cfg Config) (_ *Store, err error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	cfg = cfg.withDefaults()
	var undo []func()
	defer func() {
		if err != nil {
			for _, f := range slices.Backward(undo) {
				f()
			}
		}
	}()

	// The parts' own metrics; read by whoever asks the API's address for /metrics.
	reg := prometheus.NewRegistry()
	db, err := tsdb.Open(cfg.Dir, cfg.Log, reg, tsdbOptions(), nil)
	if err != nil {
		return nil, fmt.Errorf("metrics: open the series in %s: %w", cfg.Dir, err)
	}
	undo = append(undo, func() { _ = db.Close() })
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", cfg.Listen)
	if err != nil {
		return nil, fmt.Errorf("metrics: listen on %s: %w", cfg.Listen, err)
	}
	undo = append(undo, func() { _ = listener.Close() })
	scrapes, err := newScrapes(cfg, db, reg)
	if err != nil {
		return nil, err
	}
	scraping, err := scrapeConfig(cfg)
	if err != nil {
		return nil, err
	}
	p := newParser()
	engine := newEngine(cfg, p)
	life, cancel := context.WithCancel(context.Background())
	undo = append(undo, cancel)
	load := cfg.loader(p)
	ruled := newRules(life, load, engine, db, reg)
	if err := loadRules(ruled, load, cfg); err != nil {
		return nil, err
	}

	s := &Store{
		series:   series{engine: engine, data: db},
		cfg:      cfg,
		db:       db,
		scrapes:  scrapes,
		rules:    ruled,
		listener: listener,
		mux:      http.NewServeMux(),
		cancel:   cancel,
		updates:  make(chan map[string][]*targetgroup.Group, 1),
		lab:      make(map[string]Target),
	}
	s.close = sync.OnceValue(s.shut)
	s.mux.Handle("/metrics", promhttp.HandlerFor(reg, promhttp.HandlerOpts{}))
	promapi.Register(s.mux, promapi.Source{
		Engine: engine, Series: db, Exemplars: db, Parser: p, Rules: ruled, Targets: scrapes,
	})
	s.server = &http.Server{Handler: s.mux, ReadHeaderTimeout: 5 * time.Second}
	s.running.Go(func() { _ = s.server.Serve(listener) })
	s.update() // with no targets: makes the scrape pools
	s.running.Go(func() { s.scrape(scraping) })
	s.running.Go(ruled.Run)
	return s, nil
}

func tsdbOptions() *tsdb.Options {
	options := tsdb.DefaultOptions()
	options.WALCompression = compression.Snappy
	options.EnableExemplarStorage = true
	options.MaxExemplars = exemplars
	// Counters that began between two scrapes count from 0, see scrapeText.
	options.EnableSTAsZeroSample = true
	return options
}

// URL is the base of the HTTP API, such as http://127.0.0.1:41234.
func (s *Store) URL() string { return "http://" + s.listener.Addr().String() }

// Interval is the real time between two scrapes of a target.
func (s *Store) Interval() time.Duration { return s.cfg.interval() }

// SetTargets says what is scraped from now on, in place of what was. Series of
// targets that are gone are stale within three scrape intervals.
func (s *Store) SetTargets(targets []Target) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.mesh = slices.Clone(targets)
	s.update()
}

// Gatherer adds series of the lab itself, scraped like those of a replica with
// the label job. Their own labels win over those of the scrape. A job that is
// there already is an error in the program and panics.
func (s *Store) Gatherer(job string, g prometheus.Gatherer) {
	s.mu.Lock()
	defer s.mu.Unlock()
	path := "/lab/" + job + "/metrics"
	s.mux.Handle(path, promhttp.HandlerFor(g, promhttp.HandlerOpts{DisableCompression: true}))
	s.lab[job] = Target{
		Address: s.listener.Addr().String(),
		Labels:  map[string]string{model.JobLabel: job, model.MetricsPathLabel: path},
	}
	s.update()
}

// update hands the targets on; s.mu is held.
func (s *Store) update() {
	select {
	case <-s.updates: // out of date before anybody saw it
	default:
	}
	s.updates <- groups(s.mesh, s.lab)
}

// scrape scrapes until the store is closed. The manager takes its configuration
// here and not in Open, since it looks this machine's name up in the DNS on the
// way, which takes seconds where there is none.
func (s *Store) scrape(cfg *config.Config) {
	if err := s.scrapes.ApplyConfig(cfg); err != nil {
		s.cfg.Log.Error("no replica is scraped: the scrape configuration is refused", "error", err)
		return
	}
	if !s.closing.Load() {
		_ = s.scrapes.Run(s.updates) // always nil
	}
}

// settle waits until the manager has made its pools: one that it makes after it
// was stopped nobody would stop.
func (s *Store) settle() {
	deadline := time.After(closeGrace)
	again := time.NewTicker(time.Millisecond)
	defer again.Stop()
	for len(s.scrapes.ScrapePools()) == 0 {
		select {
		case <-again.C:
		case <-deadline: // it is still at its configuration, and will find the store closing
			return
		}
	}
}

// Close ends scrapes, rules and API, and closes the series, which stay on disk
// for OpenFinished. Only the first call does anything.
func (s *Store) Close() error { return s.close() }

func (s *Store) shut() error {
	s.settle()
	s.closing.Store(true)
	s.scrapes.Stop()
	s.rules.Stop()
	s.cancel()
	ctx, cancel := context.WithTimeout(context.Background(), closeGrace)
	defer cancel()
	var err error
	if s.server.Shutdown(ctx) != nil {
		err = s.server.Close() // who still asks is cut off: the series stay to be read
	}
	s.running.Wait()
	return errors.Join(err, s.db.Close())
}
