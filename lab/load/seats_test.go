package load

import (
	"math/rand/v2"
	"strings"
	"testing"

	gatewayv1 "spillway.dev/proto/gen/spillway/gateway/v1"
)

func boardOf(maps ...*gatewayv1.GetSeatMapResponse) *board {
	b := newBoard()
	var shows []*gatewayv1.Show
	for _, m := range maps {
		shows = append(shows, &gatewayv1.Show{ShowId: m.ShowId})
		b.see(m)
	}
	b.list(shows)
	return b
}

func TestChooseGivesEveryFreeSeatOnceAndNoTakenOne(t *testing.T) {
	b := boardOf(house("a", "x..x", "...."), house("b", "xx"), house("c", ".x"))
	rng := rand.New(rand.NewPCG(1, 2))
	got := make(map[string]bool)
	for range 20 {
		show, seats := b.choose(rng, 2)
		for _, s := range seats {
			if got[show+" "+s] {
				t.Errorf("%s of %s was chosen twice", s, show)
			}
			got[show+" "+s] = true
		}
	}
	want := "a A-2, a A-3, a B-1, a B-2, a B-3, a B-4, c A-1"
	for s := range strings.SplitSeq(want, ", ") {
		if !got[s] {
			t.Errorf("%s was never chosen", s)
		}
		delete(got, s)
	}
	if len(got) > 0 {
		t.Errorf("chosen though taken: %v", got)
	}
}

func TestChooseKeepsToOneRow(t *testing.T) {
	b := boardOf(house("a", ".", ".", "."))
	if _, seats := b.choose(rand.New(rand.NewPCG(1, 2)), 2); len(seats) != 1 {
		t.Errorf("got %v, want one seat: no row has two", seats)
	}
}

func TestANewerMapFreesAndTakes(t *testing.T) {
	b := boardOf(house("a", ".."))
	rng := rand.New(rand.NewPCG(1, 2))
	b.choose(rng, 2)
	if _, seats := b.choose(rng, 1); seats != nil {
		t.Errorf("every seat is chosen, got %v", seats)
	}
	b.see(house("a", "x.")) // A-1 was sold, A-2 is still on its way
	if _, seats := b.choose(rng, 1); seats != nil {
		t.Errorf("A-2 is chosen still, got %v", seats)
	}
	b.see(house("a", "..")) // A-1 was given back
	if _, seats := b.choose(rng, 1); len(seats) != 1 || seats[0] != "A-1" {
		t.Errorf("got %v, want A-1", seats)
	}
}

func TestSoldOutShowsAreAvoided(t *testing.T) {
	b := boardOf(house("a", "xx"), house("b", ".."), house("c", "x"))
	rng := rand.New(rand.NewPCG(1, 2))
	for range 50 {
		if got := b.show(rng); got != "b" {
			t.Fatalf("got %q, want b", got)
		}
	}
	b.see(house("b", "xx"))
	if got := b.show(rng); got == "" {
		t.Error("when all are sold out people still look at one")
	}
	if got := newBoard().show(rng); got != "" {
		t.Errorf("nothing is on sale, got %q", got)
	}
}
