package timelapse

import (
	"testing"
	"time"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/rulefmt"
	"github.com/prometheus/prometheus/promql/parser"
)

func TestExpr(t *testing.T) {
	ten := Lapse{By: 10, Window: 3 * time.Second, Interval: 500 * time.Millisecond}
	for _, c := range []struct {
		name, expr, want string
		lapse            Lapse
	}{
		{"a range", `rate(x[1m])`, `rate(x[6s])`, ten},
		{"nothing to shorten", `sum by (a) (x{b="5m"}) / 60`, `sum by (a) (x{b="5m"}) / 60`, ten},
		{"an offset", `x offset 5m`, `x offset 30s`, ten},
		{"a negative offset", `x offset -5m`, `x offset -30s`, ten},
		{"range and offset", `rate(x[5m] offset 1h)`, `rate(x[30s] offset 6m)`, ten},
		{"a subquery", `max_over_time(rate(x[1m])[30m:1m] offset 10m)`, `max_over_time(rate(x[6s])[3m:6s] offset 1m)`, ten},
		{"a subquery without a step", `max_over_time(x[30m:])`, `max_over_time(x[3m:])`, ten},
		{"a duration as a number", `predict_linear(x[10m], 4h)`, `predict_linear(x[1m], 24m)`, ten},
		{"a number that is no duration", `predict_linear(x[10m], 3600)`, `predict_linear(x[1m], 3600)`, ten},
		{"a point in time", `x @ 1700000000 offset 10s`, `x @ 1700000000.000 offset 1s`, ten},
		{"both sides of an operator", `rate(x[1m]) > on (a) rate(y[2m])`, `rate(x[6s]) > on (a) rate(y[12s])`, ten},
		{"parameters of aggregations", `topk(3, rate(x[1m]))`, `topk(3, rate(x[6s]))`, ten},
		{"part of a millisecond", `rate(x[1m]) + x offset 1s`, `rate(x[8s571ms]) + x offset 143ms`, Lapse{By: 7}},
		{"no window shorter than a few scrapes", `rate(x[20s])`, `rate(x[3s])`, ten},
		{"nor longer than it was", `rate(x[2s])`, `rate(x[2s])`, ten},
		{"an offset of a millisecond", `x offset 1ms`, `x offset 1ms`, ten},
		{"no time-lapse", `rate(x[20s] offset 1h)`, `rate(x[20s] offset 1h)`, Lapse{By: 1, Window: time.Minute}},
		{"a part", `rate(x[1m])`, `rate(x[40s])`, Lapse{By: 1.5}},
	} {
		got, err := c.lapse.Expr(c.expr, parser.NewParser(parser.Options{}))
		if err != nil {
			t.Errorf("%s: %v", c.name, err)
			continue
		}
		if got != c.want {
			t.Errorf("%s:\n got %s\nwant %s", c.name, got, c.want)
		}
		if _, err := parser.NewParser(parser.Options{}).ParseExpr(got); err != nil {
			t.Errorf("%s: what was written is not read: %v", c.name, err)
		}
	}
}

func TestExprThatDoesNotParse(t *testing.T) {
	if got, err := (Lapse{By: 2}).Expr("rate(x[1m]", parser.NewParser(parser.Options{})); err == nil {
		t.Errorf("got %q, want an error", got)
	}
}

func TestGroups(t *testing.T) {
	duration := func(d time.Duration) model.Duration { return model.Duration(d) }
	offset := duration(time.Minute)
	groups := &rulefmt.RuleGroups{Groups: []rulefmt.RuleGroup{
		{Name: "a", Interval: duration(10 * time.Second), QueryOffset: &offset, Rules: []rulefmt.Rule{
			{Alert: "A", Expr: "x > 1", For: duration(2 * time.Minute), KeepFiringFor: duration(30 * time.Second),
				Annotations: map[string]string{"summary": `{{ query "rate(x[1m])" }}`}},
			{Record: "r", Expr: "rate(x[1m])"},
		}},
		{Name: "often", Interval: duration(2 * time.Second)},
		{Name: "by the default"},
	}}
	lapse := Lapse{By: 20, Interval: 500 * time.Millisecond}
	if err := lapse.Groups(groups, parser.NewParser(parser.Options{})); err != nil {
		t.Fatal(err)
	}
	a := groups.Groups[0]
	for _, c := range []struct {
		name      string
		got, want model.Duration
	}{
		{"interval", a.Interval, duration(500 * time.Millisecond)},
		{"query offset", *a.QueryOffset, duration(3 * time.Second)},
		{"for", a.Rules[0].For, duration(6 * time.Second)},
		{"keep firing for", a.Rules[0].KeepFiringFor, duration(1500 * time.Millisecond)},
		{"no for", a.Rules[1].For, 0},
		{"an interval at its least", groups.Groups[1].Interval, duration(500 * time.Millisecond)},
		{"no interval", groups.Groups[2].Interval, 0},
	} {
		if c.got != c.want {
			t.Errorf("%s is %v, want %v", c.name, c.got, c.want)
		}
	}
	if got, want := a.Rules[1].Expr, "rate(x[3s])"; got != want {
		t.Errorf("expression is %s, want %s", got, want)
	}
	if got, want := a.Rules[0].Annotations["summary"], `{{ query "rate(x[1m])" }}`; got != want {
		t.Errorf("annotation is %s, want %s", got, want)
	}
}

func TestGroupsNameTheRule(t *testing.T) {
	groups := &rulefmt.RuleGroups{Groups: []rulefmt.RuleGroup{{Name: "g", Rules: []rulefmt.Rule{{Record: "r", Expr: "1 +"}}}}}
	err := Lapse{By: 2}.Groups(groups, parser.NewParser(parser.Options{}))
	if want := `group "g", rule "r": 1:4: parse error: unexpected end of input`; err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
}
