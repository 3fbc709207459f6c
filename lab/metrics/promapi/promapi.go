// Package promapi serves a subset of Prometheus' HTTP API v1 (query,
// query_range, query_exemplars, series, labels, label values, rules, alerts,
// targets, status/buildinfo), so that Grafana, promtool and Prometheus' own
// client can be pointed at a run.
//
// Upstream's web/api/v1 is passed over for its weight: remote write and read,
// OTLP and an OpenAPI builder come with it, 17 MB in all. Answers and error
// types follow https://prometheus.io/docs/prometheus/latest/querying/api/.
package promapi

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/promql"
	"github.com/prometheus/prometheus/promql/parser"
	"github.com/prometheus/prometheus/rules"
	"github.com/prometheus/prometheus/scrape"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/util/annotations"
)

// Source is what is asked.
type Source struct {
	Engine    *promql.Engine
	Series    storage.Queryable
	Exemplars storage.ExemplarQueryable
	Parser    parser.Parser
	// Rules and Targets are nil where nothing is evaluated or scraped any more;
	// the API then lists none.
	Rules   *rules.Manager
	Targets *scrape.Manager
}

// Register adds the API's paths, which begin with /api/v1/, and /-/ready.
func Register(mux *http.ServeMux, s Source) {
	paths := map[string]func(*http.Request) answer{
		"query":               s.query,
		"query_range":         s.queryRange,
		"query_exemplars":     s.queryExemplars,
		"series":              s.series,
		"labels":              s.labelNames,
		"label/{name}/values": s.labelValues,
		"rules":               s.rules,
		"alerts":              s.alerts,
		"targets":             s.targets,
		"status/buildinfo":    buildInfo,
	}
	for path, f := range paths {
		handler := reply(f)
		mux.Handle("GET /api/v1/"+path, handler)
		switch path {
		case "query", "query_range", "query_exemplars", "series", "labels":
			mux.Handle("POST /api/v1/"+path, handler) // for expressions longer than a URL
		}
	}
	mux.Handle("/api/v1/", reply(func(r *http.Request) answer {
		return failed(notFound, fmt.Errorf("%s %s is not among what a local run answers", r.Method, r.URL.Path))
	}))
	mux.HandleFunc("GET /-/ready", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "Ready.") })
}

// answer is what a path gives: data, or an error.
type answer struct {
	data     any
	warnings annotations.Annotations
	kind     errorKind
	err      error
}

// errorKind is an error type of the API and its status.
type errorKind struct {
	name   string
	status int
}

// statusClientClosed is nginx's code for a request whose client went away,
// which Prometheus uses too.
const statusClientClosed = 499

var (
	badData   = errorKind{"bad_data", http.StatusBadRequest}
	execution = errorKind{"execution", http.StatusUnprocessableEntity}
	canceled  = errorKind{"canceled", statusClientClosed}
	timedOut  = errorKind{"timeout", http.StatusServiceUnavailable}
	internal  = errorKind{"internal", http.StatusInternalServerError}
	notFound  = errorKind{"not_found", http.StatusNotFound}
)

func failed(kind errorKind, err error) answer { return answer{kind: kind, err: err} }

// badParameter is the answer to a parameter that cannot be read.
func badParameter(name string, err error) answer {
	return failed(badData, fmt.Errorf("invalid parameter %q: %w", name, err))
}

// failedQuery is the answer to a query that did not come to its end.
func failedQuery(err error) answer {
	if _, ok := errors.AsType[promql.ErrQueryCanceled](err); ok || errors.Is(err, context.Canceled) {
		return failed(canceled, err)
	}
	if _, ok := errors.AsType[promql.ErrQueryTimeout](err); ok {
		return failed(timedOut, err)
	}
	if _, ok := errors.AsType[promql.ErrStorage](err); ok {
		return failed(internal, err)
	}
	return failed(execution, err)
}

// envelope is around every answer.
type envelope struct {
	Status    string   `json:"status"`
	Data      any      `json:"data,omitempty"`
	ErrorType string   `json:"errorType,omitempty"`
	Error     string   `json:"error,omitempty"`
	Warnings  []string `json:"warnings,omitempty"`
	Infos     []string `json:"infos,omitempty"`
}

// maxNotes bounds the warnings, and the infos, of one answer.
const maxNotes = 10

// reply turns an answer into a response. A query's results are encoded after
// the query was closed, so f gives what is its own.
func reply(f func(*http.Request) answer) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		out, status := envelope{Status: "success"}, http.StatusOK
		a := answer{}
		if err := r.ParseForm(); err != nil {
			a = failed(badData, fmt.Errorf("parameters cannot be read: %w", err))
		} else {
			a = f(r)
		}
		if a.err != nil {
			out.Status, out.ErrorType, out.Error, status = "error", a.kind.name, a.err.Error(), a.kind.status
		} else {
			out.Data = a.data
			out.Warnings, out.Infos = a.warnings.AsStrings(r.FormValue("query"), maxNotes, maxNotes)
		}
		body, err := json.Marshal(out)
		if err != nil {
			http.Error(w, "the answer cannot be encoded: "+err.Error(), http.StatusInternalServerError)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(status)
		_, _ = w.Write(body) // a client that went away needs no answer
	})
}

// matchers reads the parameter match[]: sets of matchers, any of which may
// match.
func (s Source) matchers(r *http.Request) ([][]*labels.Matcher, error) {
	sets, err := s.Parser.ParseMetricSelectors(r.Form["match[]"])
	if err != nil {
		return nil, err
	}
	for _, set := range sets {
		selective := false
		for _, m := range set {
			selective = selective || !m.Matches("")
		}
		if !selective {
			return nil, errors.New("match[] must contain at least one non-empty matcher")
		}
	}
	return sets, nil
}
