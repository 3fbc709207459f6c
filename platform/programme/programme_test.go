package programme

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestLoadSortsByStart(t *testing.T) {
	path := filepath.Join(t.TempDir(), "programme.json")
	text := `{"shows": [
		{"id": "late", "title": "L", "venue": "V", "starts_at": "2031-02-01T20:00:00Z", "price_cents": 100, "rows": 1, "seats_per_row": 1},
		{"id": "b", "title": "B", "venue": "V", "starts_at": "2031-01-01T20:00:00Z", "price_cents": 100, "rows": 1, "seats_per_row": 1},
		{"id": "a", "title": "A", "venue": "V", "starts_at": "2031-01-01T21:00:00+01:00", "price_cents": 100, "rows": 1, "seats_per_row": 1}
	]}`
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	p, err := Load(path)
	if err != nil {
		t.Fatal(err)
	}
	var ids []string
	for _, s := range p.Shows {
		ids = append(ids, s.ID)
	}
	if want := []string{"a", "b", "late"}; !slices.Equal(ids, want) {
		t.Errorf("shows are %v, want %v", ids, want)
	}
	if s, ok := p.Show("late"); !ok || s.Title != "L" {
		t.Errorf("Show(late) = %v, %v", s, ok)
	}
	if _, ok := p.Show("never"); ok {
		t.Error("found a show that is not on")
	}
}

func TestDefaultWouldLoad(t *testing.T) {
	p := Default()
	for _, s := range p.Shows {
		if err := s.check(); err != nil {
			t.Errorf("%s: %v", s.ID, err)
		}
	}
	if !slices.IsSortedFunc(p.Shows, func(a, b Show) int { return a.StartsAt.Compare(b.StartsAt) }) {
		t.Error("the default programme is not sorted by start")
	}
	if loaded, err := Load(""); err != nil || len(loaded.Shows) != len(p.Shows) {
		t.Errorf(`Load("") = %d shows, %v`, len(loaded.Shows), err)
	}
}

func TestBadProgrammesAreRefused(t *testing.T) {
	show := func(change, to string) string {
		good := `{"id": "a", "title": "A", "venue": "V", "starts_at": "2031-01-01T20:00:00Z", "price_cents": 100, "rows": 2, "seats_per_row": 3}`
		return `{"shows": [` + strings.Replace(good, change, to, 1) + `]}`
	}
	if _, err := parse([]byte(show("", ""))); err != nil {
		t.Fatalf("the good programme is refused: %v", err)
	}
	for name, c := range map[string]struct{ text, says string }{
		"empty":         {`{"shows": []}`, "empty"},
		"unknown field": {show(`"price_cents"`, `"price"`), "price"},
		"trailing":      {show("", "") + `{}`, "after the JSON"},
		"bad id":        {show(`"a"`, `"A b"`), "id must match"},
		"no title":      {show(`"title": "A"`, `"title": ""`), "title"},
		"no venue":      {show(`"venue": "V"`, `"venue": ""`), "venue"},
		"no start":      {show(`"starts_at": "2031-01-01T20:00:00Z", `, ``), "starts_at"},
		"free":          {show(`100`, `0`), "price_cents"},
		"negative":      {show(`"rows": 2`, `"rows": -2`), "rows"},
		"too wide":      {show(`"seats_per_row": 3`, `"seats_per_row": 1000`), "seats_per_row"},
		"twice":         {strings.Replace(show("", ""), `[`, `[`+strings.TrimSuffix(strings.TrimPrefix(show("", ""), `{"shows": [`), `]}`)+`,`, 1), "twice"},
	} {
		if _, err := parse([]byte(c.text)); err == nil || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: error %v, want one that says %q", name, err, c.says)
		}
	}
	if _, err := Load(filepath.Join(t.TempDir(), "missing.json")); err == nil {
		t.Error("a missing file loads")
	}
}

func TestSeatIDsAndIndicesAreInverse(t *testing.T) {
	s := Show{ID: "a", Rows: maxRows, SeatsPerRow: 7}
	seen := make(map[string]bool, s.Seats())
	for i := range s.Seats() {
		id := s.SeatID(i)
		if seen[id] {
			t.Fatalf("%s names two seats", id)
		}
		seen[id] = true
		if back, err := s.SeatIndex(id); err != nil || back != i {
			t.Fatalf("SeatIndex(SeatID(%d)) = %d, %v", i, back, err)
		}
	}
	for row, want := range map[int]string{0: "A", 25: "Z", 26: "AA", 51: "AZ", 52: "BA", maxRows - 1: "ZZ"} {
		if got := RowName(row); got != want {
			t.Errorf("RowName(%d) = %s, want %s", row, got, want)
		}
	}
}

func TestSeatsThatDoNotExist(t *testing.T) {
	s := Show{ID: "a", Rows: 2, SeatsPerRow: 10}
	if i, err := s.SeatIndex("B-3"); err != nil || i != 12 {
		t.Errorf("SeatIndex(B-3) = %d, %v, want 12", i, err)
	}
	for _, id := range []string{"", "B", "B-", "-3", "C-1", "A-0", "A-11", "A--1", "A-+1", "A-01", "a-1", "AAA-1", "A-1-1", "AA-1"} {
		if i, err := s.SeatIndex(id); err == nil {
			t.Errorf("SeatIndex(%q) = %d, want an error", id, i)
		}
	}
}

func FuzzSeatIndex(f *testing.F) {
	f.Add("B-3")
	f.Add("ZZ-999")
	s := Show{ID: "a", Rows: 30, SeatsPerRow: 40}
	f.Fuzz(func(t *testing.T, id string) {
		if i, err := s.SeatIndex(id); err == nil && s.SeatID(i) != id {
			t.Errorf("%q is seat %d, which is %q", id, i, s.SeatID(i))
		}
	})
}
