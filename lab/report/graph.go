package report

import (
	"cmp"
	"fmt"
	"html/template"
	"maps"
	"math"
	"slices"

	"spillway.dev/lab/measure"
)

// vertex is a service in the drawing of the calls, or a place that an edge
// passes on its way through a layer (Name is empty).
type vertex struct {
	name  string
	layer int
	x     float64
	up    []*vertex
	down  []*vertex
}

// layout places services in layers, callers above the called, after Sugiyama,
// Tagawa and Toda (1981): layers by the longest way from above, places for
// edges that pass layers, then the order in each layer by the barycentre of its
// neighbours, a few times up and down.
type layout struct {
	layers [][]*vertex
	routes map[[2]string][]*vertex
}

func layered(edges [][2]string, names []string) layout {
	below := map[string][]string{}
	for _, e := range edges {
		if e[0] != e[1] {
			below[e[0]] = append(below[e[0]], e[1])
		}
	}
	depth := depths(below, names)
	l := layout{routes: map[[2]string][]*vertex{}}
	add := func(name string, layer int) *vertex {
		for len(l.layers) <= layer {
			l.layers = append(l.layers, nil)
		}
		v := &vertex{name: name, layer: layer}
		l.layers[layer] = append(l.layers[layer], v)
		return v
	}
	at := map[string]*vertex{}
	for _, name := range names {
		at[name] = add(name, depth[name])
	}
	for _, e := range edges {
		from, to := at[e[0]], at[e[1]]
		if from.layer >= to.layer {
			continue // a call back up is told in the table only
		}
		route := []*vertex{from}
		for layer := from.layer + 1; layer < to.layer; layer++ {
			route = append(route, add("", layer))
		}
		route = append(route, to)
		for i := 1; i < len(route); i++ {
			route[i-1].down = append(route[i-1].down, route[i])
			route[i].up = append(route[i].up, route[i-1])
		}
		l.routes[e] = route
	}
	l.order()
	return l
}

// depths is the longest way to each service; an edge that closes a circle does
// not count.
func depths(below map[string][]string, names []string) map[string]int {
	depth := map[string]int{}
	path := map[string]bool{}
	var walk func(name string, at int)
	walk = func(name string, at int) {
		if before, placed := depth[name]; path[name] || placed && at <= before {
			return
		}
		depth[name] = at
		path[name] = true
		for _, callee := range below[name] {
			walk(callee, at+1)
		}
		delete(path, name)
	}
	called := map[string]bool{}
	for _, callees := range below {
		for _, c := range callees {
			called[c] = true
		}
	}
	for _, name := range names {
		if !called[name] {
			walk(name, 0)
		}
	}
	for _, name := range names { // a circle that nobody calls from outside
		if _, placed := depth[name]; !placed {
			walk(name, 0)
		}
	}
	return depth
}

const (
	boxWide, boxTall = 104.0, 58.0
	boxGap, layerGap = 12.0, 46.0
	passWide         = 22.0
)

func (v *vertex) wide() float64 {
	if v.name == "" {
		return passWide
	}
	return boxWide
}

func (l layout) order() {
	place := func(layer []*vertex) {
		var total float64
		for _, v := range layer {
			total += v.wide() + boxGap
		}
		x := -(total - boxGap) / 2
		for _, v := range layer {
			v.x = x + v.wide()/2
			x += v.wide() + boxGap
		}
	}
	for _, layer := range l.layers {
		place(layer)
	}
	centre := func(of []*vertex, or float64) float64 {
		if len(of) == 0 {
			return or
		}
		var sum float64
		for _, n := range of {
			sum += n.x
		}
		return sum / float64(len(of))
	}
	sorted := func(layer []*vertex, neighbours func(*vertex) []*vertex) {
		slices.SortStableFunc(layer, func(a, b *vertex) int {
			return cmp.Compare(centre(neighbours(a), a.x), centre(neighbours(b), b.x))
		})
		place(layer)
	}
	for range 4 {
		for i := 1; i < len(l.layers); i++ {
			sorted(l.layers[i], func(v *vertex) []*vertex { return v.up })
		}
		for i := len(l.layers) - 2; i >= 0; i-- {
			sorted(l.layers[i], func(v *vertex) []*vertex { return v.down })
		}
	}
}

// edges are the drawn ones, in order of their names.
func (l layout) edges() [][2]string {
	return slices.SortedFunc(maps.Keys(l.routes), func(a, b [2]string) int {
		return cmp.Or(cmp.Compare(a[0], b[0]), cmp.Compare(a[1], b[1]))
	})
}

// ports is where an edge leaves its caller and where it arrives, from the middle
// of the box: spread in the order of what is at the other end, so that neither
// lines nor their numbers lie on each other.
func (l layout) ports(used map[[2]string]float64) (leave, arrive map[[2]string]float64) {
	leave, arrive = map[[2]string]float64{}, map[[2]string]float64{}
	spread := func(into map[[2]string]float64, own int, toward func(route []*vertex) float64) {
		groups := map[string][][2]string{}
		for _, e := range l.edges() {
			if _, drawn := used[e]; drawn {
				groups[e[own]] = append(groups[e[own]], e)
			}
		}
		for _, edges := range groups {
			slices.SortStableFunc(edges, func(a, b [2]string) int {
				return cmp.Compare(toward(l.routes[a]), toward(l.routes[b]))
			})
			for i, e := range edges {
				into[e] = (float64(i+1)/float64(len(edges)+1) - 0.5) * boxWide * 1.1
			}
		}
	}
	spread(leave, 0, func(route []*vertex) float64 { return route[1].x })
	spread(arrive, 1, func(route []*vertex) float64 { return route[len(route)-2].x })
	return leave, arrive
}

// perSecondText is a rate in little room.
func perSecondText(rate float64) string {
	if rate >= 10 {
		rate = math.Round(rate)
	}
	return number(rate) + "/s"
}

// names of services, callers before the called, as the drawing has them.
func (l layout) names() []string {
	var out []string
	for _, layer := range l.layers {
		for _, v := range layer {
			if v.name != "" {
				out = append(out, v.name)
			}
		}
	}
	return out
}

// calls is the layout of everything that any variant has called or run, so that
// a service stands at the same place in all of them.
func calls(variants []Variant) layout {
	edges := map[[2]string]bool{}
	names := map[string]bool{}
	for _, v := range variants {
		for _, e := range v.Recording.Edges {
			edges[[2]string{e.Caller, e.Callee}] = true
			names[e.Caller], names[e.Callee] = true, true
		}
		for _, s := range v.Recording.Services {
			names[s.Name] = true
		}
	}
	sorted := slices.SortedFunc(maps.Keys(edges), func(a, b [2]string) int {
		return cmp.Or(cmp.Compare(a[0], b[0]), cmp.Compare(a[1], b[1]))
	})
	return layered(sorted, slices.Sorted(maps.Keys(names)))
}

// graphSVG draws one variant's calls over l. Services are coloured by their peak
// pressure, edges are as wide as their peak rate (the square root of it).
func graphSVG(id string, l layout, variant int, v Variant) template.HTML {
	services := map[string]measure.Service{}
	for _, s := range v.Recording.Services {
		services[s.Name] = s
	}
	rates := map[[2]string]float64{}
	var most float64
	for _, e := range v.Recording.Edges {
		if rate, _ := peak(e.Calls); finite(rate) {
			rates[[2]string{e.Caller, e.Callee}] = rate
			most = max(most, rate)
		}
	}
	var wide float64
	for _, layer := range l.layers {
		for _, n := range layer {
			wide = max(wide, 2*(math.Abs(n.x)+n.wide()/2))
		}
	}
	wide = max(wide+4, 340)
	tall := float64(len(l.layers))*(boxTall+layerGap) - layerGap + 4
	x := func(n *vertex) float64 { return n.x + wide/2 }
	y := func(n *vertex) float64 { return 2 + float64(n.layer)*(boxTall+layerGap) }

	var m markup
	m.open("svg", "class", "graph", "role", "img", "aria-labelledby", id+"-t "+id+"-d", "viewBox", fmt.Sprintf("0 0 %s %s", fixed(wide, 0), fixed(tall, 0)))
	m.say("title", "Calls between services with "+v.Name, "id", id+"-t")
	m.say("desc", graphText(v), "id", id+"-d")
	leave, arrive := l.ports(rates)
	type label struct {
		text string
		x, y float64
	}
	var labels []label
	for _, e := range l.edges() {
		rate, used := rates[e]
		if !used {
			continue
		}
		route := l.routes[e]
		px, py := x(route[0])+leave[e], y(route[0])+boxTall
		d := fmt.Sprintf("M%s,%s", fixed(px, 1), fixed(py, 1))
		for i, n := range route[1:] {
			nx, ny := x(n), y(n)
			if i == len(route)-2 {
				nx += arrive[e]
				labels = append(labels, label{perSecondText(rate), nx, ny - 7})
			}
			mid := (py + ny) / 2
			d += fmt.Sprintf("C%s,%s %s,%s %s,%s", fixed(px, 1), fixed(mid, 1), fixed(nx, 1), fixed(mid-8, 1), fixed(nx, 1), fixed(ny, 1))
			px, py = nx, ny
			if n.name == "" {
				py += boxTall
				d += "V" + fixed(py, 1)
			}
		}
		m.leaf("path", "class", "edge", "d", d, "stroke-width", fixed(1+4*math.Sqrt(rate/max(most, 1e-9)), 1))
	}
	for _, b := range labels {
		m.say("text", b.text, "class", "tick halo", "x", fixed(b.x, 1), "y", fixed(b.y, 1), "text-anchor", "middle")
	}
	for _, layer := range l.layers {
		for _, n := range layer {
			if n.name == "" {
				continue
			}
			s, known := services[n.name]
			high, _ := peak(s.Pressure)
			class := "box " + cmp.Or(pressureClass(high), "unknown")
			left, top := x(n)-boxWide/2, y(n)
			m.open("g", "class", class)
			m.leaf("rect", "x", fixed(left, 1), "y", fixed(top, 1), "width", fixed(boxWide, 0), "height", fixed(boxTall, 0), "rx", "6")
			line := func(class, text string, dy float64) {
				m.say("text", text, "class", class, "x", fixed(x(n), 1), "y", fixed(top+dy, 1), "text-anchor", "middle")
			}
			if !known {
				line("name", n.name, boxTall/2+4)
			} else {
				line("name", n.name, 17)
				line("peak", number(high), 36)
				line("small", replicasText(s), 51)
			}
			m.close("g")
		}
	}
	m.close("svg")
	return m.html()
}

func replicasText(s measure.Service) string {
	if len(s.Ready) == 0 {
		return ""
	}
	low, high := math.Inf(1), math.Inf(-1)
	for _, p := range s.Ready {
		low, high = min(low, p.V), max(high, p.V)
	}
	if low == high {
		return count(int(high), "replica")
	}
	return fmt.Sprintf("%d to %d replicas", int(low), int(high))
}

// graphText says what a person who sees the picture sees first.
func graphText(v Variant) string {
	type hot struct {
		name string
		peak float64
	}
	var list []hot
	for _, s := range v.Recording.Services {
		if p, _ := peak(s.Pressure); finite(p) {
			list = append(list, hot{s.Name, p})
		}
	}
	slices.SortFunc(list, func(a, b hot) int { return cmp.Or(cmp.Compare(b.peak, a.peak), cmp.Compare(a.name, b.name)) })
	if len(list) == 0 {
		return "No pressure was measured."
	}
	text := "Peak pressure, highest first: "
	for i, h := range list {
		if i > 0 {
			text += ", "
		}
		text += h.name + " " + number(h.peak)
	}
	return text + "."
}
