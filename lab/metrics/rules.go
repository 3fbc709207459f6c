package metrics

import (
	"context"
	"errors"
	"fmt"
	"log/slog"

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

// ruleStore is what rules read and write.
type ruleStore interface {
	storage.Appendable
	storage.Queryable
}

// newRules returns a manager without rules.
func newRules(ctx context.Context, load loader, engine *promql.Engine, db ruleStore, reg prometheus.Registerer) *rules.Manager {
	return rules.NewManager(&rules.ManagerOptions{
		Context:     ctx,
		Appendable:  db,
		Queryable:   db,
		QueryFunc:   rules.EngineQueryFunc(engine, db),
		NotifyFunc:  func(context.Context, string, ...*rules.Alert) {}, // alerts are read from the API
		Logger:      load.log,
		Registerer:  reg,
		GroupLoader: load,
		Parser:      load.parser,
	})
}

// loadRules gives a manager the rules of a run; they are evaluated from its Run
// on.
func loadRules(manager *rules.Manager, load loader, cfg Config) error {
	// Read once for the errors: the manager only logs them.
	for _, file := range cfg.RuleFiles {
		if _, errs := load.Load(file, false, model.UTF8Validation); len(errs) > 0 {
			return fmt.Errorf("metrics: rule file: %w", errors.Join(errs...))
		}
	}
	if err := manager.Update(cfg.interval(), cfg.RuleFiles, labels.EmptyLabels(), "", nil); err != nil {
		return fmt.Errorf("metrics: %w", err)
	}
	return nil
}

func (c Config) loader(p parser.Parser) loader {
	return loader{
		parser: p,
		lapse:  timelapse.Lapse{By: c.Timelapse, Window: scrapesOfAWindow * c.interval(), Interval: shortestInterval},
		log:    c.Log,
	}
}
