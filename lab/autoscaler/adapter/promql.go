package adapter

import (
	"errors"

	"github.com/prometheus/prometheus/promql/parser"
)

// checkSelector says whether a rule's seriesQuery selects series.
func checkSelector(query string) error {
	if query == "" {
		return errors.New("is missing: give a series selector")
	}
	_, err := newParser().ParseMetricSelector(query)
	return err
}

// compress divides the durations of a query. It also finds a template that does
// not make PromQL before the store does.
func (a *Adapter) compress(query string) (string, error) {
	return a.lapse.Expr(query, newParser())
}

// newParser reads PromQL as released, so that the rules work in a cluster too.
// A parser is cheap and keeps nothing.
func newParser() parser.Parser { return parser.NewParser(parser.Options{}) }
