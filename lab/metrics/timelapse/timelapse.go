// Package timelapse rewrites Prometheus rules for a run that goes N times as
// fast as what it stands for: what a rule waits for or looks back on takes an
// Nth of the time. Values stay what they are: a rate is per real second.
package timelapse

import (
	"fmt"
	"time"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/rulefmt"
	"github.com/prometheus/prometheus/promql/parser"
)

// Lapse says how durations are shortened.
type Lapse struct {
	// By is the factor, 1 or more.
	By float64
	// Window is the least time that the range of a selector or subquery is
	// shortened to: a range shorter than a few scrapes has no rate. A range that
	// is shorter as written is left as it is.
	Window time.Duration
	// Interval is the least time between two evaluations of a group.
	Interval time.Duration
}

// Groups shortens the interval and offset of every group, the waiting times of
// its alerts, and the durations in its expressions. Annotations stay as they
// are, queries in their templates included.
func (l Lapse) Groups(groups *rulefmt.RuleGroups, p parser.Parser) error {
	for g := range groups.Groups {
		group := &groups.Groups[g]
		if group.Interval != 0 {
			group.Interval = model.Duration(l.shorten(time.Duration(group.Interval), l.Interval))
		}
		if group.QueryOffset != nil {
			offset := model.Duration(l.shorten(time.Duration(*group.QueryOffset), 0))
			group.QueryOffset = &offset
		}
		for r := range group.Rules {
			rule := &group.Rules[r]
			rule.For = model.Duration(l.shorten(time.Duration(rule.For), 0))
			rule.KeepFiringFor = model.Duration(l.shorten(time.Duration(rule.KeepFiringFor), 0))
			expr, err := l.Expr(rule.Expr, p)
			if err != nil {
				return fmt.Errorf("group %q, rule %q: %w", group.Name, rule.Record+rule.Alert, err)
			}
			rule.Expr = expr
		}
	}
	return nil
}

// Expr shortens the durations of a PromQL expression: ranges, offsets, the
// resolutions of subqueries, and numbers that are written as durations. A time
// given with @ is a point in time and stays.
func (l Lapse) Expr(expr string, p parser.Parser) (string, error) {
	tree, err := p.ParseExpr(expr)
	if err != nil {
		return "", err
	}
	parser.Inspect(tree, func(node parser.Node, _ []parser.Node) error {
		switch n := node.(type) {
		case *parser.VectorSelector:
			n.OriginalOffset = l.shorten(n.OriginalOffset, 0)
		case *parser.MatrixSelector:
			n.Range = l.shorten(n.Range, l.Window)
		case *parser.SubqueryExpr:
			n.Range = l.shorten(n.Range, l.Window)
			n.Step = l.shorten(n.Step, 0)
			n.OriginalOffset = l.shorten(n.OriginalOffset, 0)
		case *parser.NumberLiteral:
			if n.Duration {
				n.Val = l.shorten(time.Duration(n.Val*float64(time.Second)), 0).Seconds()
			}
		}
		return nil
	})
	return tree.String(), nil
}

// shorten divides d, but not below least and not below what PromQL can tell
// from 0, a millisecond. What is shorter than least as written stays.
func (l Lapse) shorten(d, least time.Duration) time.Duration {
	if d == 0 || l.By == 1 {
		return d
	}
	sign := time.Duration(1)
	if d < 0 {
		sign, d = -1, -d
	}
	short := time.Duration(float64(d) / l.By).Round(time.Millisecond)
	return sign * max(short, time.Millisecond, min(least, d))
}
