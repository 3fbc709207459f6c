package report

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"golang.org/x/net/html"
)

// parsed is a page and every element in it.
type parsed struct {
	root *html.Node
	all  []*html.Node
	ids  map[string]*html.Node
}

func parse(t *testing.T, text string) parsed {
	t.Helper()
	root, err := html.Parse(strings.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	p := parsed{root: root, ids: map[string]*html.Node{}}
	for n := range root.Descendants() {
		if n.Type != html.ElementNode {
			continue
		}
		p.all = append(p.all, n)
		if id := attribute(n, "id"); id != "" {
			if p.ids[id] != nil {
				t.Errorf("the id %q is there twice", id)
			}
			p.ids[id] = n
		}
	}
	return p
}

func attribute(n *html.Node, name string) string {
	for _, a := range n.Attr {
		if a.Key == name {
			return a.Val
		}
	}
	return ""
}

func has(n *html.Node, name string) bool {
	return slices.ContainsFunc(n.Attr, func(a html.Attribute) bool { return a.Key == name })
}

func (p parsed) elements(name string) []*html.Node {
	return slices.DeleteFunc(slices.Clone(p.all), func(n *html.Node) bool { return n.Data != name })
}

func textOf(n *html.Node) string {
	var b strings.Builder
	for c := range n.Descendants() {
		if c.Type == html.TextNode {
			b.WriteString(c.Data)
		}
	}
	return strings.TrimSpace(b.String())
}

func child(n *html.Node, name string) *html.Node {
	for c := range n.ChildNodes() {
		if c.Data == name {
			return c
		}
	}
	return nil
}

func within(n *html.Node, name string) bool {
	for a := range n.Ancestors() {
		if a.Data == name {
			return true
		}
	}
	return false
}

// checkPage holds what every page promises.
func checkPage(t *testing.T, text string) {
	t.Helper()
	p := parse(t, text)
	checkStructure(t, text, p)
	checkSelfContained(t, text, p)
	checkNames(t, p)
}

func checkStructure(t *testing.T, text string, p parsed) {
	t.Helper()
	if !strings.HasPrefix(text, "<!doctype html>") {
		t.Error("no doctype: browsers fall back into quirks")
	}
	if lang := attribute(p.elements("html")[0], "lang"); lang != "en" {
		t.Errorf("the language is %q", lang)
	}
	for _, once := range []string{"main", "h1", "title", "header", "footer"} {
		found := slices.DeleteFunc(p.elements(once), func(n *html.Node) bool { return n.Namespace == "svg" })
		if len(found) != 1 {
			t.Errorf("%d elements %s, want one", len(found), once)
		}
	}
	if skip := p.elements("a")[0]; attribute(skip, "href") != "#main" {
		t.Error("the first link does not skip to the result")
	}
	level := 1
	for _, n := range p.all {
		if len(n.Data) == 2 && n.Data[0] == 'h' && n.Data[1] >= '1' && n.Data[1] <= '6' {
			now := int(n.Data[1] - '0')
			if now > level+1 {
				t.Errorf("the heading %q is of level %d after one of level %d", textOf(n), now, level)
			}
			level = now
		}
	}
	// The parser mends what is nested wrongly; what it has moved is not where
	// the template put it.
	for _, n := range p.all {
		parent := n.Parent.Data
		switch n.Data {
		case "li":
			if parent != "ul" {
				t.Errorf("an li stands in %s", parent)
			}
		case "caption", "thead", "tbody":
			if parent != "table" {
				t.Errorf("a %s stands in %s", n.Data, parent)
			}
		case "figcaption":
			if parent != "figure" {
				t.Errorf("a figcaption stands in %s", parent)
			}
		case "section", "figure", "table", "ul", "details":
			if parent == "p" {
				t.Errorf("a %s stands in a paragraph", n.Data)
			}
		}
	}
	if n := strings.Count(text, "<p>") + strings.Count(text, "<p "); n != len(p.elements("p")) {
		t.Errorf("%d paragraphs are written, %d are read: something closes one early", n, len(p.elements("p")))
	}
}

// checkSelfContained: nothing is fetched, and the policy sees to it.
func checkSelfContained(t *testing.T, text string, p parsed) {
	t.Helper()
	for _, n := range p.all {
		for _, a := range n.Attr {
			switch {
			case strings.HasPrefix(a.Key, "on"):
				t.Errorf("%s has a handler %s", n.Data, a.Key)
			case a.Key == "style":
				t.Errorf("%s has a style attribute, which the policy refuses", n.Data)
			case a.Key == "src" || a.Key == "srcset" || a.Key == "action" || a.Key == "background" || a.Key == "poster" || a.Key == "data":
				t.Errorf("%s fetches %s", n.Data, a.Val)
			case a.Key == "href":
				target, local := strings.CutPrefix(a.Val, "#")
				if local && p.ids[target] == nil {
					t.Errorf("a link goes to %s, which is not there", a.Val)
				}
				if !local && !(n.Data == "a" && strings.HasPrefix(a.Val, "./")) {
					t.Errorf("%s leads to %q", n.Data, a.Val)
				}
			}
		}
	}
	if found := regexp.MustCompile(`(?i)https?:|//[a-z]+\.|url\(|@import`).FindAllString(strings.ReplaceAll(text, "http://www.w3.org/2000/svg", ""), -1); found != nil {
		t.Errorf("the page speaks of other places: %q", found)
	}
	for _, forbidden := range []string{"img", "iframe", "object", "embed", "link", "base", "foreignobject", "video", "audio"} {
		if found := p.elements(forbidden); len(found) > 0 {
			t.Errorf("the page has %d of %s", len(found), forbidden)
		}
	}
	var policy string
	for _, n := range p.elements("meta") {
		if attribute(n, "http-equiv") == "Content-Security-Policy" {
			policy = attribute(n, "content")
		}
	}
	if !strings.HasPrefix(policy, "default-src 'none'; ") || strings.Contains(policy, "unsafe") || strings.Contains(policy, "*") {
		t.Errorf("the policy is %q", policy)
	}
	for kind, elements := range map[string][]*html.Node{"style": p.elements("style"), "script": p.elements("script")} {
		if len(elements) > 1 {
			t.Errorf("%d elements %s", len(elements), kind)
		}
		for _, n := range elements {
			if !strings.Contains(policy, kind+"-src "+hash(n.FirstChild.Data)) {
				t.Errorf("the policy refuses the page's own %s", kind)
			}
		}
	}
}

// checkNames: whoever does not see the page is told what is on it.
func checkNames(t *testing.T, p parsed) {
	t.Helper()
	for _, n := range p.all {
		for _, name := range []string{"aria-labelledby", "for", "aria-describedby"} {
			for id := range strings.FieldsSeq(attribute(n, name)) {
				if target := p.ids[id]; target == nil || name == "aria-labelledby" && textOf(target) == "" {
					t.Errorf("%s %s names %q, which is not there or empty", n.Data, name, id)
				}
			}
		}
		switch n.Data {
		case "svg":
			if within(n, "svg") || attribute(n, "aria-hidden") == "true" {
				continue
			}
			title, desc := child(n, "title"), child(n, "desc")
			if attribute(n, "role") != "img" || title == nil || desc == nil || textOf(title) == "" || textOf(desc) == "" {
				t.Errorf("a picture (class %s) has no role, title or description", attribute(n, "class"))
			}
		case "figure":
			if attribute(n, "aria-labelledby") == "" || child(n, "figcaption") == nil {
				t.Errorf("figure %s has no name", attribute(n, "id"))
			}
			if child(n, "details") == nil {
				t.Errorf("figure %s has no table of its data", attribute(n, "id"))
			}
		case "table":
			if caption := child(n, "caption"); caption == nil || textOf(caption) == "" {
				t.Error("a table has no caption")
			}
		case "th":
			if attribute(n, "scope") == "" {
				t.Errorf("the head cell %q has no scope", textOf(n))
			}
		case "section", "nav", "form", "article":
			if attribute(n, "aria-label") == "" && attribute(n, "aria-labelledby") == "" {
				t.Errorf("a %s has no name", n.Data)
			}
		case "input":
			if id := attribute(n, "id"); !within(n, "label") && !slices.ContainsFunc(p.elements("label"), func(l *html.Node) bool { return attribute(l, "for") == id }) {
				t.Errorf("input %s has no label", id)
			}
		}
		if attribute(n, "role") == "region" && attribute(n, "aria-label") == "" {
			t.Error("a region has no name")
		}
		if has(n, "tabindex") && attribute(n, "role") != "region" {
			t.Errorf("a %s is in the order of the Tab key without a role", n.Data)
		}
	}
}

func TestPagesAreSound(t *testing.T) {
	bare := &Result{Scenario: "bare", Question: "What is left when nothing was recorded?", Valid: true, Variants: []Variant{{Name: "only"}}}
	many := small()
	for i := range 6 {
		v := many.Variants[i%3]
		v.Name += fmt.Sprint(" ", i)
		many.Variants = append(many.Variants, v)
	}
	none := small()
	none.Variants[1].Recording = nil
	none.Variants[2].Traces = nil
	dir := t.TempDir()
	results := map[string]*Result{"good": small(), "bad": invalid(small()), "bare": bare, "many": many, "unrecorded": none}
	writeAll(t, dir, results)
	comparison, _ := compareAll(t, dir, "good", "bad")
	if err := os.WriteFile(filepath.Join(dir, "compare.html"), comparison, 0o644); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{"index.html", "compare.html", "good/index.html", "bad/index.html", "bare/index.html", "many/index.html", "unrecorded/index.html"} {
		t.Run(path, func(t *testing.T) { checkPage(t, string(read(t, filepath.Join(dir, path)))) })
	}
}

// What scenario authors, replicas and the network say is text and nothing else.
func TestEverythingIsEscaped(t *testing.T) {
	const evil = `</title></style></svg></script><script>alert(1)</script><img src=x onerror=alert(2)>"' onload="alert(3)" {{.}} <!--`
	r := invalid(small())
	r.Scenario, r.Question, r.Answer, r.Document, r.Command, r.Commit = evil, evil, evil, evil, evil, evil
	r.Invalid = []string{evil}
	r.Environment = map[string]string{evil: evil}
	r.Expectations = []Expectation{{Measure: evil, Text: evil}}
	for i := range r.Variants {
		v := &r.Variants[i]
		v.Name, v.Says = evil+fmt.Sprint(i), evil
		v.Measures["odd."+evil] = v.Measures["p50_ms"]
		for j := range v.Recording.Services {
			v.Recording.Services[j].Name += evil
		}
		for j := range v.Recording.Edges {
			v.Recording.Edges[j].Caller += evil
			v.Recording.Edges[j].Callee += evil
		}
		for j := range v.Recording.Actions {
			v.Recording.Actions[j].Service += evil
			v.Recording.Actions[j].Reason = evil
		}
		v.Recording.Faults[0].Text = evil
		t := &v.Traces[0]
		t.ID, t.Journey = evil, evil
		for j := range t.Spans {
			t.Spans[j].Service, t.Spans[j].Name, t.Spans[j].Reason = evil, evil, evil
		}
	}
	dir := t.TempDir()
	writeAll(t, dir, map[string]*Result{"a": r, "b": r})
	comparison, _ := compareAll(t, dir, "a", "b")
	for name, text := range map[string]string{"report": string(read(t, filepath.Join(dir, "a", "index.html"))),
		"catalogue": string(read(t, filepath.Join(dir, "index.html"))), "comparison": string(comparison)} {
		t.Run(name, func(t *testing.T) {
			checkPage(t, text)
			if !strings.Contains(text, "&lt;script&gt;alert(1)") {
				t.Error("the text is not there at all")
			}
		})
	}
}

func TestTheBannerIsThereWhenItMustBe(t *testing.T) {
	for _, r := range []*Result{small(), invalid(small())} {
		text, err := render(r)
		if err != nil {
			t.Fatal(err)
		}
		p := parse(t, string(text))
		banner := p.ids["invalid"]
		if (banner != nil) == r.Valid {
			t.Errorf("valid is %v and the banner is there: %v", r.Valid, banner != nil)
		}
		if banner == nil {
			continue
		}
		says := textOf(banner.Parent)
		for _, reason := range r.Invalid {
			if !strings.Contains(says, reason) {
				t.Errorf("the banner does not say %q", reason)
			}
		}
		if order := slices.Index(p.all, banner); order > slices.IndexFunc(p.all, func(n *html.Node) bool { return attribute(n, "class") == "answer" }) {
			t.Error("the banner comes after the answer")
		}
	}
}

// The page tells what the result holds, in words that a search finds.
func TestAReportTells(t *testing.T) {
	r := small()
	text, err := render(r)
	if err != nil {
		t.Fatal(err)
	}
	p := parse(t, string(text))
	says := textOf(p.elements("body")[0])
	for _, want := range []string{r.Question, r.Command, r.Commit, r.Document, "10 ×", "42", "2 of 3 expectations held",
		"redis-server 7.4.2", "slow-down 2 on payment", "Peak pressure: bank", "SessionService/Touch", "the bank's quota is used up",
		"a second of the scenario took 0.100 s", "cpu resource utilization (percentage of request) above target", "1.80", "Beaten by none"} {
		if !strings.Contains(says, want) {
			t.Errorf("the report does not tell %q", want)
		}
	}
	for _, v := range r.Variants {
		for _, s := range v.Recording.Services {
			if !strings.Contains(says, s.Name) {
				t.Errorf("the report does not tell of %s", s.Name)
			}
		}
	}
	plots := 0
	for _, n := range p.elements("svg") {
		if attribute(n, "class") == "plot" {
			plots++
		}
	}
	if want := 3 + 2*8; plots != want {
		t.Errorf("%d charts over time, want %d", plots, want)
	}
	marks := 0
	for _, n := range p.elements("use") {
		if strings.HasPrefix(attribute(n, "class"), "mark") {
			marks++
		}
	}
	actions := 0
	for _, v := range r.Variants {
		actions += len(v.Recording.Actions)
	}
	if marks != actions || actions == 0 {
		t.Errorf("%d marks for %d scaling actions", marks, actions)
	}
}
