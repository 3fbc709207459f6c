package trace

import (
	"bufio"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	tracepb "go.opentelemetry.io/proto/otlp/trace/v1"
)

const (
	narrowest = 40 // columns below which lines are allowed to be too long
	barFrom   = 72 // columns below which there are no bars
	numbers   = 22 // columns of offset and duration
)

// Waterfall prints the tree for a terminal that is width columns wide: one line
// a span with service, name, offset from the start of the trace, duration and,
// where there is room, a bar; below a failed span its reason. Control
// characters in names, which come over the network, are not printed.
func (t *Tree) Waterfall(w io.Writer, width int) error {
	out := bufio.NewWriter(w)
	if t.Spans == 0 {
		fmt.Fprintln(out, "no spans")
		return out.Flush()
	}
	width = max(width, narrowest)
	bars := 0
	labels := width - numbers
	if width >= barFrom {
		labels = min(widestLabel(t)+1, labels*3/5)
		bars = width - labels - numbers - 1
	}
	fmt.Fprintf(out, "trace %s\n%s, %s, %s\n\n", t.ID, Duration(t.End.Sub(t.Start)),
		count(t.Spans, "span"), count(len(t.Services()), "service"))
	fmt.Fprintf(out, "%-*s%11s%11s\n", labels, "SERVICE, SPAN", "START", "TAKES")

	var orphans int
	skewed := map[string]time.Duration{}
	var print func(n *Node, first, rest string)
	print = func(n *Node, first, rest string) {
		label := first + n.label()
		line := fmt.Sprintf("%s%11s%11s", pad(label, labels), Duration(n.Start.Sub(t.Start)), Duration(n.End.Sub(n.Start)))
		if bars > 0 {
			line += " " + bar(n, t, bars)
		}
		fmt.Fprintln(out, strings.TrimRight(line, " "))
		under := rest
		if len(n.Children) > 0 {
			under += "│ "
		} else {
			under += "  "
		}
		if n.Failed {
			reason := n.Reason
			if reason == "" {
				reason = "failed"
			}
			fmt.Fprintln(out, clip(under+"✗ "+plain(reason), width))
		}
		if n.Orphan {
			orphans++
		}
		if n.Skew != 0 {
			skewed[plain(n.Service)] = n.Skew
		}
		for i, c := range n.Children {
			if i < len(n.Children)-1 {
				print(c, rest+"├╴", rest+"│ ")
			} else {
				print(c, rest+"└╴", rest+"  ")
			}
		}
	}
	for _, root := range t.Roots {
		print(root, "", "")
	}
	if orphans > 0 {
		fmt.Fprintf(out, "\n%s without a parent among the spans that came: shown as a root of its own.\n", count(orphans, "span"))
	}
	for i, service := range slices.Sorted(maps.Keys(skewed)) {
		if i == 0 {
			fmt.Fprintln(out)
		}
		fmt.Fprintf(out, "The clock of %s was corrected by %s.\n", service, Duration(skewed[service]))
	}
	return out.Flush()
}

// label is what stands for a span: a call out has an arrow before its name, and
// names of RPCs lose their proto package.
func (n *Node) label() string {
	name := plain(n.Name)
	if pkg, method, ok := strings.Cut(name, "/"); ok && !strings.Contains(pkg, " ") {
		name = pkg[strings.LastIndexByte(pkg, '.')+1:] + "/" + method
	}
	switch n.Kind {
	case tracepb.Span_SPAN_KIND_CLIENT, tracepb.Span_SPAN_KIND_PRODUCER:
		return plain(n.Service) + " → " + name
	default:
		return plain(n.Service) + "  " + name
	}
}

func widestLabel(t *Tree) int {
	widest := len("SERVICE, SPAN")
	var walk func(nodes []*Node, depth int)
	walk = func(nodes []*Node, depth int) {
		for _, n := range nodes {
			widest = max(widest, 2*depth+utf8.RuneCountInString(n.label()))
			walk(n.Children, depth+1)
		}
	}
	walk(t.Roots, 0)
	return widest
}

// bar places a span in cells columns that stand for the whole trace.
func bar(n *Node, t *Tree, cells int) string {
	total := t.End.Sub(t.Start)
	if total <= 0 {
		return "█"
	}
	at := func(d time.Duration) int { return int(float64(d) / float64(total) * float64(cells)) }
	from := min(at(n.Start.Sub(t.Start)), cells-1)
	to := max(at(n.End.Sub(t.Start)), from)
	if to == from {
		return strings.Repeat(" ", from) + "▏"
	}
	fill := "█"
	if n.Failed {
		fill = "▒"
	}
	return strings.Repeat(" ", from) + strings.Repeat(fill, to-from)
}

// Duration writes d with three significant digits and a unit that suits it.
func Duration(d time.Duration) string {
	sign := ""
	if d < 0 {
		sign, d = "-", -d
	}
	ms := float64(d) / float64(time.Millisecond)
	switch {
	case ms < 9.995:
		return fmt.Sprintf("%s%.2f ms", sign, ms)
	case ms < 99.95:
		return fmt.Sprintf("%s%.1f ms", sign, ms)
	case ms < 999.5:
		return fmt.Sprintf("%s%.0f ms", sign, ms)
	default:
		return fmt.Sprintf("%s%.2f s", sign, ms/1000)
	}
}

func count(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}

// plain is s without control characters and on one line.
func plain(s string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsControl(r) || r == utf8.RuneError || unicode.Is(unicode.Cf, r) {
			return ' '
		}
		return r
	}, s)
}

func clip(s string, width int) string {
	if utf8.RuneCountInString(s) <= width {
		return s
	}
	return string([]rune(s)[:max(width-1, 0)]) + "…"
}

func pad(s string, width int) string {
	s = clip(s, width)
	return s + strings.Repeat(" ", width-utf8.RuneCountInString(s))
}
