package load

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"math"
	"net/http"
	"slices"
	"sync"
	"time"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"

	enginev1 "spillway.dev/proto/gen/spillway/engine/v1"
)

// latenessMetric is how much later than its model a replica finished work: what
// the host, not the modelled capacity, cost.
const latenessMetric = "spillway_capacity_lateness_seconds"

// serviceMetric is the mean service time that a replica models.
const serviceMetric = "spillway_capacity_service_seconds_mean"

// latenessBound is the part of the service time up to which the median lateness
// leaves the modelled capacity what it is.
const latenessBound = 0.05

// Lateness is how late the replicas of a service were.
type Lateness struct {
	Service  string `json:"service"`
	Replicas int    `json:"replicas"`
	// Count is how many calls went through the modelled capacity.
	Count uint64 `json:"count"`
	// MeanMS, P50MS and P99MS are in milliseconds. Quantiles are interpolated
	// within a histogram bucket; above the last bucket they are that bucket's
	// lower bound.
	MeanMS float64 `json:"mean_ms"`
	P50MS  float64 `json:"p50_ms"`
	P99MS  float64 `json:"p99_ms"`
	// ServiceMS is the mean service time that is modelled; 0 without a model.
	ServiceMS float64 `json:"service_ms"`
}

// honest tells whether the replicas were as fast as their model says.
func (l Lateness) honest() bool { return l.ServiceMS == 0 || l.P50MS <= latenessBound*l.ServiceMS }

// histogram is a cumulative Prometheus histogram.
type histogram struct {
	count   uint64
	sum     float64
	buckets map[float64]uint64 // by upper bound, without +Inf
	service float64            // modelled seconds of one call; no count
}

// Reading is what the replicas had counted at one time.
type Reading struct {
	byReplica map[string]histogram // "service/replica/start"
	service   map[string]string
	failed    []string
}

// ReadLateness asks the admin endpoint of every ready replica of a mesh. What
// cannot be read is left out and named in the report.
func ReadLateness(ctx context.Context, engine enginev1.EngineServiceClient) (Reading, error) {
	list, err := engine.ListWorkloads(ctx, &enginev1.ListWorkloadsRequest{})
	if err != nil {
		return Reading{}, fmt.Errorf("list the replicas: %w", err)
	}
	transport := &http.Transport{DisableKeepAlives: true}
	defer transport.CloseIdleConnections()
	client := &http.Client{Transport: transport, Timeout: 3 * time.Second}
	reading := Reading{byReplica: make(map[string]histogram), service: make(map[string]string)}
	var mu sync.Mutex
	var all sync.WaitGroup
	for _, w := range list.GetWorkloads() {
		for _, r := range w.GetReplicas() {
			if !r.GetReady() || r.GetAdminAddress() == "" {
				continue
			}
			// A replica that was restarted counts from zero: it is another one.
			key := fmt.Sprintf("%s/%d/%d", r.GetName(), r.GetRestarts(), r.GetPid())
			all.Go(func() {
				h, err := scrape(ctx, client, "http://"+r.GetAdminAddress()+"/metrics")
				mu.Lock()
				defer mu.Unlock()
				if err != nil {
					reading.failed = append(reading.failed, r.GetName())
					return
				}
				reading.byReplica[key], reading.service[key] = h, w.GetName()
			})
		}
	}
	all.Wait()
	slices.Sort(reading.failed)
	return reading, nil
}

func scrape(ctx context.Context, client *http.Client, url string) (histogram, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return histogram{}, err
	}
	req.Header.Set("Accept", "text/plain; version=0.0.4")
	resp, err := client.Do(req)
	if err != nil {
		return histogram{}, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return histogram{}, fmt.Errorf("%s: %s", url, resp.Status)
	}
	return parseLateness(io.LimitReader(resp.Body, 16<<20))
}

// parseLateness reads the lateness histogram from the Prometheus text format.
func parseLateness(text io.Reader) (histogram, error) {
	parser := expfmt.NewTextParser(model.UTF8Validation)
	families, err := parser.TextToMetricFamilies(text)
	if err != nil {
		return histogram{}, err
	}
	family := families[latenessMetric]
	if family == nil || family.GetType() != dto.MetricType_HISTOGRAM {
		return histogram{}, errors.New("no histogram " + latenessMetric)
	}
	total := histogram{buckets: make(map[float64]uint64)}
	for _, m := range families[serviceMetric].GetMetric() {
		total.service = m.GetGauge().GetValue()
	}
	for _, m := range family.GetMetric() {
		h := m.GetHistogram()
		total.count += h.GetSampleCount()
		total.sum += h.GetSampleSum()
		for _, b := range h.GetBucket() {
			if !math.IsInf(b.GetUpperBound(), 1) {
				total.buckets[b.GetUpperBound()] += b.GetCumulativeCount()
			}
		}
	}
	return total, nil
}

// Since is the lateness between two readings, by service. Replicas that came in
// between count from zero. Those that went took their figures with them: the
// note says how many, and which could not be read.
func (after Reading) Since(before Reading) (late []Lateness, note string) {
	sums := make(map[string]histogram)
	replicas := make(map[string]int)
	for key, h := range after.byReplica {
		service := after.service[key]
		sums[service] = sums[service].plus(h.minus(before.byReplica[key]))
		replicas[service]++
	}
	for _, service := range slices.Sorted(maps.Keys(sums)) {
		h := sums[service]
		l := Lateness{Service: service, Replicas: replicas[service], Count: h.count, ServiceMS: h.service * 1000}
		if h.count > 0 {
			l.MeanMS = h.sum / float64(h.count) * 1000
			l.P50MS = h.quantile(0.50) * 1000
			l.P99MS = h.quantile(0.99) * 1000
		}
		late = append(late, l)
	}
	gone := 0
	for key := range before.byReplica {
		if _, there := after.byReplica[key]; !there {
			gone++
		}
	}
	if gone > 0 {
		note = fmt.Sprintf("%d replicas ended during the load and took their figures with them", gone)
	}
	if len(after.failed) > 0 {
		if note != "" {
			note += "; "
		}
		note += fmt.Sprintf("not readable: %v", after.failed)
	}
	return late, note
}

func (h histogram) minus(o histogram) histogram {
	d := histogram{count: h.count - o.count, sum: h.sum - o.sum, service: h.service, buckets: make(map[float64]uint64, len(h.buckets))}
	for le, n := range h.buckets {
		d.buckets[le] = n - o.buckets[le]
	}
	return d
}

func (h histogram) plus(o histogram) histogram {
	s := histogram{count: h.count + o.count, sum: h.sum + o.sum, service: max(h.service, o.service), buckets: make(map[float64]uint64)}
	for _, part := range []histogram{h, o} {
		for le, n := range part.buckets {
			s.buckets[le] += n
		}
	}
	return s
}

// quantile interpolates within the bucket that holds rank q, as Prometheus'
// histogram_quantile does.
func (h histogram) quantile(q float64) float64 {
	bounds := slices.Sorted(maps.Keys(h.buckets))
	rank := q * float64(h.count)
	lower, below := 0.0, 0.0
	for _, le := range bounds {
		upTo := float64(h.buckets[le])
		if upTo >= rank && upTo > below {
			if le <= 0 {
				return le
			}
			return lower + (le-lower)*(rank-below)/(upTo-below)
		}
		lower, below = le, upTo
	}
	return lower
}

func writeLateness(w io.Writer, r *Report) {
	if len(r.Lateness) > 0 {
		fmt.Fprintf(w, "\n%-16s%10s%10s%10s%10s%10s%14s\n", "replica lateness", "replicas", "calls", "mean ms", "p50 ms", "p99 ms", "modelled ms")
		for _, l := range slices.SortedFunc(slices.Values(r.Lateness), func(a, b Lateness) int { return cmp.Compare(a.Service, b.Service) }) {
			fmt.Fprintf(w, "  %-14s%10d%10d%10.2f%10.2f%10.2f%14.1f\n", l.Service, l.Replicas, l.Count, l.MeanMS, l.P50MS, l.P99MS, l.ServiceMS)
		}
		for _, l := range r.Lateness {
			if !l.honest() {
				fmt.Fprintf(w, "NOT HONEST: half of the calls at %s were late by more than %.0f %% of the modelled time; this host was too busy.\n", l.Service, latenessBound*100)
			}
		}
	}
	if r.LatenessNote != "" {
		fmt.Fprintf(w, "\nLateness of replicas: %s.\n", r.LatenessNote)
	}
}
