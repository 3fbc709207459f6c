package metrics

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/rulefmt"
	"github.com/prometheus/prometheus/promql"
	"github.com/prometheus/prometheus/promql/parser"
	"github.com/prometheus/prometheus/rules"
	"github.com/prometheus/prometheus/storage"

	"spillway.dev/lab/metrics/timelapse"
)

// scrapesOfAWindow is how many scrapes the shortest window of a shortened rule
// spans: with two in it there is a rate, and one may be lost.
const scrapesOfAWindow = 3

// loader reads rule files for a run in time-lapse.
type loader struct {
	parser parser.Parser
	lapse  timelapse.Lapse
	log    *slog.Logger
}

// Load implements rules.GroupLoader.
func (l loader) Load(file string, ignoreUnknown bool, names model.ValidationScheme) (*rulefmt.RuleGroups, []error) {
	groups, errs := rulefmt.ParseFile(file, ignoreUnknown, names, l.parser, l.log)
	if len(errs) > 0 {
		return nil, errs
	}
	if err := l.lapse.Groups(groups, l.parser); err != nil {
		return nil, []error{fmt.Errorf("%s: %w", file, err)}
	}
	return groups, nil
}

// Parse implements rules.GroupLoader.
func (l loader) Parse(query string) (parser.Expr, error) { return l.parser.ParseExpr(query) }

// newRules returns a manager that has read the files and waits for Run.
func newRules(ctx context.Context, cfg Config, engine *promql.Engine, p parser.Parser, db interface {
	storage.Appendable
	storage.Queryable
}, reg prometheus.Registerer) (*rules.Manager, error) {
	load := loader{
		parser: p,
		lapse: timelapse.Lapse{
			By:       cfg.Timelapse,
			Window:   scrapesOfAWindow * cfg.interval(),
			Interval: shortestInterval,
		},
		log: cfg.Log,
	}
	// Read once for the errors: the manager only logs them.
	for _, file := range cfg.RuleFiles {
		if _, errs := load.Load(file, false, model.UTF8Validation); len(errs) > 0 {
			return nil, fmt.Errorf("metrics: rule file: %w", errors.Join(errs...))
		}
	}
	manager := rules.NewManager(&rules.ManagerOptions{
		Context:     ctx,
		Appendable:  db,
		Queryable:   db,
		QueryFunc:   rules.EngineQueryFunc(engine, db),
		NotifyFunc:  func(context.Context, string, ...*rules.Alert) {}, // alerts are read from the API
		Logger:      cfg.Log,
		Registerer:  reg,
		GroupLoader: load,
		Parser:      p,
		ResendDelay: time.Minute,
	})
	if err := manager.Update(cfg.interval(), cfg.RuleFiles, labels.EmptyLabels(), "", nil); err != nil {
		return nil, fmt.Errorf("metrics: %w", err)
	}
	return manager, nil
}
