package coordination

import (
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"

	"spillway.dev/lab/scenario/strict"
)

// Where the graph and its rules are, below the root of the repository.
const (
	GraphFile = "k8s/base/callgraph.yaml"
	RulesFile = "k8s/observability/prometheus/rules/coordination.yaml"
)

// Queue stands for a method where the callee takes work from a queue instead of
// being called.
const Queue = "queue"

// Call says that a method of one service makes calls of a method of another.
type Call struct {
	Caller, CallerMethod string
	Callee, Method       string
	// Visits is how many, per call that the caller answers; 0 where they are made
	// only now and then, as when something goes wrong.
	Visits float64
}

// String is the call as people read it: gateway.Checkout → order.Checkout.
func (c Call) String() string {
	return c.Caller + "." + c.CallerMethod + " → " + c.Callee + "." + c.Method
}

// Graph is a declared call graph without cycles. It is not changed once made.
type Graph struct {
	// Edge is the service that people call; its methods are the routes.
	Edge string
	// Calls are sorted by caller (callers before callees), its method, callee and
	// its method.
	Calls []Call
	// Quotas are the services that cannot scale, each with the knob by which it
	// tells its quota in calls per second; "" where it has none.
	Quotas map[string]string

	services []string // callers before callees
}

// file is the YAML of a graph.
type file struct {
	Edge  string                                   `yaml:"edge"`
	Calls map[string]map[string]map[string]float64 `yaml:"calls"`
	Fixed map[string]string                        `yaml:"fixed"`
}

// Parse reads and checks the text of a graph; name is what errors call the file.
// Mistakes in it come as strict.Errors, each with its place.
func Parse(name string, text []byte) (*Graph, error) {
	doc, err := strict.Parse(name, text)
	if err != nil {
		return nil, err
	}
	var f file
	doc.Decode(doc.Root(), "", &f)
	if err := doc.Err(); err != nil {
		return nil, err
	}
	g := &Graph{Edge: f.Edge, Quotas: f.Fixed}
	for caller, methods := range f.Calls {
		for method, calls := range methods {
			for to, visits := range calls {
				path := fmt.Sprintf("calls.%s.%s.%s", caller, method, to)
				callee, called, ok := strings.Cut(to, ".")
				switch {
				case !ok || callee == "" || called == "" || strings.Contains(called, "."):
					doc.Wrong(path, "%q is called; give SERVICE.METHOD, or SERVICE.%s for work from a queue", to, Queue)
					continue
				case visits < 0 || math.IsInf(visits, 0) || math.IsNaN(visits):
					doc.Wrong(path, "%v calls are not possible; give 0 or more", visits)
				}
				g.Calls = append(g.Calls, Call{caller, method, callee, called, visits})
			}
		}
	}
	g.check(doc)
	if err := doc.Err(); err != nil {
		return nil, err
	}
	rank := make(map[string]int, len(g.services))
	for i, s := range g.services {
		rank[s] = i
	}
	slices.SortFunc(g.Calls, func(a, b Call) int {
		if a.Caller != b.Caller {
			return rank[a.Caller] - rank[b.Caller]
		}
		return strings.Compare(a.CallerMethod+" "+a.Callee+"."+a.Method, b.CallerMethod+" "+b.Callee+"."+b.Method)
	})
	return g, nil
}

// check notes what makes no sense, and puts the services in order.
func (g *Graph) check(doc *strict.Document) {
	if g.Edge == "" {
		doc.Wrong("edge", "`edge` is missing: the service that people call")
		return
	}
	callers, called, methods := map[string]bool{}, map[string]bool{}, map[string]bool{}
	for _, c := range g.Calls {
		callers[c.Caller] = true
		called[c.Callee] = true
		methods[c.Callee+"."+c.Method] = true
	}
	if !callers[g.Edge] {
		doc.Wrong("edge", "%q calls nobody; people call the service whose methods stand in calls.%s", g.Edge, g.Edge)
	}
	if called[g.Edge] {
		doc.Wrong("edge", "%q is called by another service; only people call the edge", g.Edge)
	}
	for _, c := range g.Calls {
		if c.Caller != g.Edge && !methods[c.Caller+"."+c.CallerMethod] {
			doc.Wrong("calls."+c.Caller+"."+c.CallerMethod, "nobody calls %s.%s; give its calls to what does, or leave it out", c.Caller, c.CallerMethod)
		}
	}
	for service := range g.Quotas {
		switch {
		case !called[service]:
			doc.Wrong("fixed."+service, "nobody calls %q", service)
		case callers[service]:
			doc.Wrong("fixed."+service, "%q calls others; what cannot scale ends the graph", service)
		}
	}
	waits := make(map[string]map[string]bool)
	for s := range called {
		waits[s] = map[string]bool{}
	}
	for s := range callers {
		waits[s] = map[string]bool{}
	}
	for _, c := range g.Calls {
		waits[c.Callee][c.Caller] = true
	}
	for len(waits) > 0 {
		var next []string
		for s, callers := range waits {
			if len(callers) == 0 {
				next = append(next, s)
			}
		}
		if len(next) == 0 {
			doc.Wrong("calls", "%s call each other in a circle; demand cannot be handed on in one", strings.Join(slices.Sorted(maps.Keys(waits)), ", "))
			return
		}
		slices.Sort(next)
		for _, s := range next {
			delete(waits, s)
			for _, callers := range waits {
				delete(callers, s)
			}
		}
		g.services = append(g.services, next...)
	}
}

// Services are all services, callers before callees.
func (g *Graph) Services() []string { return slices.Clone(g.services) }

// Routes are the edge's methods, sorted.
func (g *Graph) Routes() []string {
	var routes []string
	for _, c := range g.Calls {
		if c.Caller == g.Edge {
			routes = append(routes, c.CallerMethod)
		}
	}
	slices.Sort(routes)
	return slices.Compact(routes)
}

// Callers are the services that call a service directly, or put work in its
// queue, in the ordinary course; sorted.
func (g *Graph) Callers(service string) []string {
	var callers []string
	for _, c := range g.Calls {
		if c.Callee == service && c.Visits > 0 {
			callers = append(callers, c.Caller)
		}
	}
	slices.Sort(callers)
	return slices.Compact(callers)
}

// Above are the services whose calls end at a service, directly or not, the edge
// left out; sorted.
func (g *Graph) Above(service string) []string {
	above := map[string]bool{}
	var climb func(string)
	climb = func(s string) {
		for _, caller := range g.Callers(s) {
			if caller != g.Edge && !above[caller] {
				above[caller] = true
				climb(caller)
			}
		}
	}
	climb(service)
	return slices.Sorted(maps.Keys(above))
}

// Visits is how many calls of each service one call of a route comes to, as
// declared. The edge is visited once.
func (g *Graph) Visits(route string) map[string]float64 {
	calls := map[string]float64{g.Edge + "." + route: 1}
	visits := map[string]float64{g.Edge: 1}
	for _, c := range g.Calls { // callers before callees
		n := calls[c.Caller+"."+c.CallerMethod] * c.Visits
		if n > 0 {
			calls[c.Callee+"."+c.Method] += n
			visits[c.Callee] += n
		}
	}
	return visits
}
