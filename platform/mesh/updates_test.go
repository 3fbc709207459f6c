package mesh

import (
	"testing"
	"time"
)

// TestUpdates follows endpoint Lists on their way. A list is one service with one
// endpoint, whose port tells the Lists apart.
func TestUpdates(t *testing.T) {
	list := func(port uint32) Lists { return Lists{"echo": {{Address: "127.0.0.1", Port: port}}} }
	type step struct {
		at     int // seconds
		delay  int // set before, with drop, when it is not -1
		drop   bool
		latest uint32
		shown  uint32
		next   int // 0: none
	}
	const same = -1
	for _, test := range []struct {
		name  string
		steps []step
	}{
		{"nothing set", []step{{0, same, false, 1, 1, 0}, {1, same, false, 2, 2, 0}, {1, same, false, 3, 3, 0}}},
		{"late", []step{
			{0, same, false, 1, 1, 0}, {1, 5, false, 1, 1, 0}, {2, same, false, 2, 1, 7}, {3, same, false, 2, 1, 7},
			{4, same, false, 3, 1, 7}, {7, same, false, 3, 2, 9}, {9, same, false, 3, 3, 0},
		}},
		{"late from the first on", []step{{0, 5, false, 1, 1, 0}, {1, same, false, 2, 1, 6}}},
		{"two that are due at once", []step{{0, 5, false, 1, 1, 0}, {1, same, false, 2, 1, 6}, {2, same, false, 3, 1, 6}, {9, same, false, 3, 3, 0}}},
		{"no delay any more", []step{{0, 5, false, 1, 1, 0}, {1, same, false, 2, 1, 6}, {2, 0, false, 3, 3, 0}, {9, same, false, 3, 3, 0}}},
		{"a shorter delay", []step{{0, 9, false, 1, 1, 0}, {1, same, false, 2, 1, 10}, {2, 3, false, 2, 1, 5}, {3, same, false, 3, 1, 5}, {5, same, false, 3, 2, 6}, {6, same, false, 3, 3, 0}}},
		{"a longer delay", []step{{0, 2, false, 1, 1, 0}, {1, same, false, 2, 1, 3}, {2, 9, false, 3, 1, 3}, {3, same, false, 3, 2, 11}}},
		{"dropped", []step{{0, same, false, 1, 1, 0}, {1, 0, true, 2, 1, 0}, {5, same, true, 3, 1, 0}, {6, 0, false, 3, 3, 0}}},
		{"dropped and back as it was", []step{{0, same, false, 1, 1, 0}, {1, 0, true, 2, 1, 0}, {2, same, true, 1, 1, 0}, {3, 0, false, 1, 1, 0}}},
		{"dropped, then late", []step{{0, same, false, 1, 1, 0}, {1, 0, true, 2, 1, 0}, {2, 5, false, 2, 1, 7}, {7, same, false, 2, 2, 0}}},
		{"sent before it was cut", []step{{0, 5, false, 1, 1, 0}, {1, same, false, 2, 1, 6}, {2, 5, true, 3, 1, 6}, {6, same, true, 3, 2, 0}}},
	} {
		t.Run(test.name, func(t *testing.T) {
			begin := time.Unix(1000, 0)
			after := func(seconds int) time.Time { return begin.Add(time.Duration(seconds) * time.Second) }
			var u Updates
			for _, s := range test.steps {
				if s.delay != same {
					u.Set(after(s.at), EndpointNews{Delay: time.Duration(s.delay) * time.Second, Drop: s.drop})
				}
				shown, next := u.Pass(after(s.at), list(s.latest))
				if got := shown["echo"][0].Port; got != s.shown {
					t.Errorf("at %d the control plane has %d, want %d", s.at, got, s.shown)
				}
				if want := s.next; (want == 0) != next.IsZero() || want != 0 && !next.Equal(after(want)) {
					t.Errorf("at %d the next one is due %v, want %d", s.at, next.Sub(begin), want)
				}
			}
		})
	}
}

func TestListsAreToldApart(t *testing.T) {
	a := Lists{"echo": {{Address: "127.0.0.1", Port: 1}}, "caller": {}}
	for _, other := range []Lists{
		{"echo": {{Address: "127.0.0.1", Port: 1}}},
		{"echo": {{Address: "127.0.0.1", Port: 1, Draining: true}}, "caller": {}},
		{"echo": {}, "caller": {}},
		{"echo": {{Address: "127.0.0.1", Port: 1}}, "other": {}},
	} {
		if a.equal(other) {
			t.Errorf("%v counts as %v", other, a)
		}
	}
	if !a.equal(Lists{"caller": []Endpoint{}, "echo": {{Address: "127.0.0.1", Port: 1}}}) {
		t.Error("the same list counts as another")
	}
}
