package coordination

import (
	"maps"
	"os"
	"slices"
	"strings"
	"testing"
)

const small = `
edge: front
calls:
  front:
    Buy: {shop.Buy: 1, session.Touch: 1}
    Look: {session.Touch: 1, shop.Look: 0.5}
  shop:
    Buy: {till.Pay: 2, stock.Take: 1, post.queue: 1, till.Undo: 0}
    Look: {stock.Count: 1}
  till:
    Pay: {bank.Charge: 1}
fixed:
  bank: bank.quota
`

func parsed(t *testing.T, text string) *Graph {
	t.Helper()
	g, err := Parse("graph.yaml", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return g
}

func TestGraph(t *testing.T) {
	g := parsed(t, small)
	same := func(what string, got, want []string) {
		t.Helper()
		if !slices.Equal(got, want) {
			t.Errorf("%s are %q, want %q", what, got, want)
		}
	}
	same("services", g.Services(), []string{"front", "session", "shop", "post", "stock", "till", "bank"})
	same("routes", g.Routes(), []string{"Buy", "Look"})
	same("callers of stock", g.Callers("stock"), []string{"shop"})
	same("callers of session", g.Callers("session"), []string{"front"})
	same("above the bank", g.Above("bank"), []string{"shop", "till"})
	same("above session", g.Above("session"), nil)
	if got, want := g.Visits("Buy"), map[string]float64{"front": 1, "session": 1, "shop": 1, "stock": 1, "post": 1, "till": 2, "bank": 2}; !maps.Equal(got, want) {
		t.Errorf("Buy visits %v, want %v", got, want)
	}
	if got, want := g.Visits("Look"), map[string]float64{"front": 1, "session": 1, "shop": 0.5, "stock": 0.5}; !maps.Equal(got, want) {
		t.Errorf("Look visits %v, want %v", got, want)
	}
}

func TestMistakesHaveAPlaceAndARemedy(t *testing.T) {
	for _, test := range []struct{ name, from, to, want string }{
		{"an unknown key", "fixed:", "fixt:", `graph.yaml:12:1: unknown key "fixt"`},
		{"no edge", "edge: front", "edge: ''", "`edge` is missing"},
		{"an edge that calls nobody", "edge: front", "edge: post", `"post" calls nobody`},
		{"an edge that is called", "bank.Charge: 1", "front.Buy: 1", "only people call the edge"},
		{"no method", "session.Touch: 1}\n    Look", "session: 1}\n    Look", `"session" is called; give SERVICE.METHOD`},
		{"less than nothing", "till.Pay: 2", "till.Pay: -2", "graph.yaml:8:21: -2 calls are not possible"},
		{"no number", "till.Pay: 2", "till.Pay: two", "graph.yaml:8:21: "},
		{"a method that nobody calls", "shop.Look: 0.5", "shop.See: 0.5", "nobody calls shop.Look"},
		{"a circle", "bank.Charge: 1", "shop.Buy: 1", "call each other in a circle"},
		{"something fixed that nobody calls", "  bank: bank.quota", "  vault: x", `nobody calls "vault"`},
		{"something fixed that calls", "  bank: bank.quota", "  till: x", `"till" calls others`},
	} {
		text := strings.Replace(small, test.from, test.to, 1)
		if text == small {
			t.Fatalf("%s: nothing was changed", test.name)
		}
		if _, err := Parse("graph.yaml", []byte(text)); err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: %v, want %q", test.name, err, test.want)
		}
	}
}

func TestRulesAreUpToDate(t *testing.T) {
	const root = "../../"
	text, err := os.ReadFile(root + GraphFile)
	if err != nil {
		t.Fatal(err)
	}
	g, err := Parse(GraphFile, text)
	if err != nil {
		t.Fatal(err)
	}
	kept, err := os.ReadFile(root + RulesFile)
	if err != nil {
		t.Fatal(err)
	}
	if g.Rules() != string(kept) {
		t.Errorf("%s is not what %s says: run make generate", RulesFile, GraphFile)
	}
}
