package experiment

import (
	"context"
	"fmt"
	"maps"
	"math"
	"slices"
	"time"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/promql"

	"spillway.dev/lab/measure"
)

// reader reads the series of a run from its metrics store.
type reader struct {
	store     Metrics
	since     time.Time     // what is older is of another mesh
	begin     time.Time     // of the load
	length    time.Duration // of the load, real
	timelapse float64
	services  []string        // of the mesh: the control plane's series are not kept
	cut       map[string]bool // services of which a replica ended without draining
}

// The series of a service, by the recording rules that keep them.
var rules = []struct {
	name string
	to   func(*measure.Service) *measure.Series
}{
	{"spillway:service_offered_calls:rate", func(s *measure.Service) *measure.Series { return &s.Offered }},
	{"spillway:service_answered_calls:rate", func(s *measure.Service) *measure.Series { return &s.Answered }},
	{"spillway:service_refused_calls:rate", func(s *measure.Service) *measure.Series { return &s.Refused }},
	{"spillway:service_capacity_calls:rate", func(s *measure.Service) *measure.Series { return &s.Capacity }},
	{"spillway:service_pressure:ratio", func(s *measure.Service) *measure.Series { return &s.Pressure }},
	{"spillway:service_utilization:ratio", func(s *measure.Service) *measure.Series { return &s.Utilization }},
	{"spillway:service_queue:sum", func(s *measure.Service) *measure.Series { return &s.Queue }},
	{"spillway:service_calls:rate", func(s *measure.Service) *measure.Series { return &s.Calls }},
	{"spillway:service_attempts:rate", func(s *measure.Service) *measure.Series { return &s.Attempts }},
	{"spillway:service_replicas_ready", func(s *measure.Service) *measure.Series { return &s.Ready }},
	{"spillway:service_replicas_desired", func(s *measure.Service) *measure.Series { return &s.Desired }},
	{`sum by (service) (label_replace(kube_pod_status_phase{phase="Running"} unless on (namespace, pod) kube_pod_deletion_timestamp, "service", "$1", "pod", "(.*)-[^-]+-[^-]+"))`,
		func(s *measure.Service) *measure.Series { return &s.Running }},
}

// settlePatience bounds the wait for the last scrapes where four intervals between
// scrapes are shorter.
const settlePatience = 10 * time.Second

// settle waits until every replica has been scraped after the last call that any of
// them tells of: what callers began and what callees began is then told of the same
// calls. Work that was begun before the load ended may go on after it.
func (q reader) settle(ctx context.Context) error {
	since, calls := time.Now(), math.NaN()
	ctx, cancel := context.WithTimeout(ctx, max(settlePatience, 4*q.store.Interval()))
	defer cancel()
	ticker := time.NewTicker(q.store.Interval() / 4)
	defer ticker.Stop()
	for {
		now := time.Now()
		oldest, err := q.latest(ctx, `min(timestamp(up{pod!=""}))`, now)
		if err != nil {
			return err
		}
		told, err := q.latest(ctx, `sum({__name__=~"grpc_(client|server)_started_total"})`, now)
		if err != nil {
			return err
		}
		if told != calls {
			since, calls = now, told
		} else if oldest > float64(since.UnixMilli())/1000 {
			return nil
		}
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return nil // a replica that stands still is told of by its gap
		}
	}
}

// latest reads an expression of one value, 0 where there is none.
func (q reader) latest(ctx context.Context, expr string, at time.Time) (float64, error) {
	values, err := q.store.Query(ctx, expr, at)
	if err != nil && ctx.Err() == nil {
		return 0, fmt.Errorf("wait for the last scrapes: %w", err)
	}
	if len(values) == 0 {
		return 0, nil
	}
	return values[0].F, nil
}

// into reads everything into the recording.
func (q reader) into(ctx context.Context, r *measure.Recording, scaled map[string]bool, visits map[string]map[string]float64) error {
	if err := q.settle(ctx); err != nil {
		return err
	}
	services := make(map[string]*measure.Service)
	for _, rule := range rules {
		matrix, err := q.matrix(ctx, rule.name)
		if err != nil {
			return err
		}
		for _, s := range matrix {
			name := s.Metric.Get("service")
			if !slices.Contains(q.services, name) {
				continue
			}
			if services[name] == nil {
				services[name] = &measure.Service{Name: name, Scaled: scaled[name], Visits: visits[name]}
			}
			*rule.to(services[name]) = q.series(s)
		}
	}
	for _, step := range []func(context.Context, map[string]*measure.Service) error{q.calibration, q.lateness, q.replicas} {
		if err := step(ctx, services); err != nil {
			return err
		}
	}
	for _, name := range slices.Sorted(maps.Keys(services)) {
		r.Services = append(r.Services, *services[name])
	}
	edges, err := q.matrix(ctx, "spillway:edge_calls:rate")
	if err != nil {
		return err
	}
	for _, s := range edges {
		r.Edges = append(r.Edges, measure.Edge{Caller: s.Metric.Get("caller"), Callee: s.Metric.Get("callee"), Calls: q.series(s)})
	}
	return q.whole(ctx, r)
}

// whole reads what is of the mesh or the host.
func (q reader) whole(ctx context.Context, r *measure.Recording) error {
	window := millis(4 * q.store.Interval())
	for expr, to := range map[string]*measure.Series{
		// A cluster's nodes cost while they are there.
		"max(spillway_nodes_paid) or count(kube_node_info)":                                                                    &r.Nodes,
		fmt.Sprintf("rate(spillway_host_cpu_busy_seconds_total[%s]) / rate(spillway_host_cpu_seconds_total[%[1]s])", window):   &r.HostCPU,
		fmt.Sprintf("rate(spillway_host_cpu_stolen_seconds_total[%s]) / rate(spillway_host_cpu_seconds_total[%[1]s])", window): &r.HostStolen,
	} {
		matrix, err := q.matrix(ctx, expr)
		if err != nil {
			return err
		}
		if len(matrix) > 0 {
			*to = q.series(matrix[0])
		}
	}
	gaps, err := q.matrix(ctx, `(up{pod!=""} == 0) and on (pod) (kube_pod_status_ready{condition="true"} == 1)`)
	if err != nil {
		return err
	}
	for _, s := range gaps {
		for _, p := range q.series(s) {
			r.Gaps = append(r.Gaps, measure.Window{From: p.T, To: p.T + q.step().Seconds()*q.timelapse, Text: s.Metric.Get("pod")})
		}
	}
	refused := 0.0
	if err := q.totals(ctx, `spillway_bank_quota_breaches_total{service="bank"}`, func(_ labels.Labels, n float64) { refused += n }); err != nil {
		return err
	}
	charges := int64(math.Round(refused))
	r.QuotaBreaches = &charges
	if err := q.underFault(ctx, r); err != nil {
		return err
	}
	return q.doubles(ctx, r)
}

// calibration reads what one replica can answer: slots ÷ the mean service time
// when nothing slows it down.
func (q reader) calibration(ctx context.Context, services map[string]*measure.Service) error {
	for expr, to := range map[string]func(*measure.Service, float64){
		"max by (service) (max_over_time(spillway:pod_capacity_calls:rate[%s]))":           func(s *measure.Service, v float64) { s.CapacityOfOne = v },
		"min by (service) (min_over_time(spillway_capacity_service_seconds_mean[%s]) > 0)": func(s *measure.Service, v float64) { s.ServiceTime = 1000 * v },
	} {
		vector, err := q.store.Query(ctx, fmt.Sprintf(expr, millis(q.whileLoaded())), q.end())
		if err != nil {
			return err
		}
		for _, sample := range vector {
			if s := services[sample.Metric.Get("service")]; s != nil {
				to(s, sample.F)
			}
		}
	}
	return nil
}

// lateness reads the median over the whole load.
func (q reader) lateness(ctx context.Context, services map[string]*measure.Service) error {
	vector, err := q.store.Query(ctx, fmt.Sprintf(
		"histogram_quantile(0.5, sum by (service, le) (increase(spillway_capacity_lateness_seconds_bucket[%s])))", millis(q.whileLoaded())), q.end())
	if err != nil {
		return err
	}
	for _, sample := range vector {
		if s := services[sample.Metric.Get("service")]; s != nil && !math.IsNaN(sample.F) {
			s.LatenessP50 = 1000 * sample.F
		}
	}
	return nil
}

// replicas reads who was ready when, and what each had to do.
func (q reader) replicas(ctx context.Context, services map[string]*measure.Service) error {
	ready, err := q.matrix(ctx, `label_replace(kube_pod_status_ready{condition="true"} == 1, "service", "$1", "pod", "(.*)-[^-]+-[^-]+")`)
	if err != nil {
		return err
	}
	calls, err := q.matrix(ctx, fmt.Sprintf("sum by (service, pod) (rate(grpc_server_started_total[%s]))", millis(3*q.store.Interval())))
	if err != nil {
		return err
	}
	of := make(map[string]measure.Series)
	for _, s := range calls {
		of[s.Metric.Get("pod")] = q.series(s)
	}
	for _, s := range ready {
		owner, points := services[s.Metric.Get("service")], q.series(s)
		if owner == nil || len(points) == 0 {
			continue
		}
		name, from := s.Metric.Get("pod"), points[0].T
		own := of[name]
		if len(own) == 0 || own[0].T > from { // it tells of calls from its first one on; before, it had none
			own = slices.Insert(own, 0, measure.Point{T: from})
		}
		owner.Replicas = append(owner.Replicas, measure.Replica{
			Name: name, From: from, To: points[len(points)-1].T + q.step().Seconds()*q.timelapse, Calls: own,
		})
	}
	return nil
}

// millis is a duration as PromQL writes it.
func millis(d time.Duration) string { return fmt.Sprintf("%dms", d.Milliseconds()) }

// step is the real time between two points of a series.
func (q reader) step() time.Duration { return q.store.Interval() }

func (q reader) end() time.Time { return q.begin.Add(q.length) }

// whileLoaded is the length of the load in PromQL.
func (q reader) whileLoaded() time.Duration {
	return max(q.length, time.Second).Round(time.Millisecond)
}

func (q reader) matrix(ctx context.Context, expr string) (promql.Matrix, error) {
	return q.store.QueryRange(ctx, expr, q.begin, q.end(), q.step())
}

// series turns the points of a series into scenario time. What is not a number
// is left out.
func (q reader) series(from promql.Series) measure.Series {
	out := make(measure.Series, 0, len(from.Floats))
	for _, p := range from.Floats {
		if math.IsNaN(p.F) || math.IsInf(p.F, 0) {
			continue
		}
		at := time.UnixMilli(p.T).Sub(q.begin).Seconds() * q.timelapse
		out = append(out, measure.Point{T: max(at, 0), V: p.F})
	}
	return slices.Clip(out)
}
