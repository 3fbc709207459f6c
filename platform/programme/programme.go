// Package programme is what is on: the shows that seats are sold for, the same
// list for every service that needs it, read once at start.
package programme

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"regexp"
	"slices"
	"time"
)

// Limits of a programme. Rows and seats are bounded by what a seat id can name
// (A to ZZ, 1 to 999).
const (
	maxRows        = 26 + 26*26
	maxSeatsPerRow = 999
	// maxPriceCents keeps the price of a whole order far from overflow.
	maxPriceCents = 100_000_000
)

// Programme is a list of shows, sorted by start time, then by id.
type Programme struct {
	Shows []Show `json:"shows"`
}

// Show is one performance with numbered seats.
type Show struct {
	// ID names the show in requests and in Redis keys: lower-case letters,
	// digits and hyphens, at most 64 characters.
	ID    string `json:"id"`
	Title string `json:"title"`
	Venue string `json:"venue"`
	// StartsAt is RFC 3339 in the file.
	StartsAt time.Time `json:"starts_at"`
	// PriceCents is the price of any one seat.
	PriceCents  int64 `json:"price_cents"`
	Rows        int   `json:"rows"`
	SeatsPerRow int   `json:"seats_per_row"`
}

// Load reads and checks a programme file. The empty path stands for Default.
// An unknown field is an error: a misspelt price would otherwise be free seats.
func Load(path string) (Programme, error) {
	if path == "" {
		return Default(), nil
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return Programme{}, fmt.Errorf("read the programme: %w", err)
	}
	p, err := parse(text)
	if err != nil {
		return Programme{}, fmt.Errorf("programme file %s: %w", path, err)
	}
	return p, nil
}

// Default is a small programme for a service that is started alone.
func Default() Programme {
	return Programme{Shows: []Show{
		{
			ID: "opening-night", Title: "Opening Night", Venue: "Mill Theatre",
			StartsAt: time.Date(2031, time.March, 7, 19, 30, 0, 0, time.UTC), PriceCents: 4_500, Rows: 20, SeatsPerRow: 25,
		},
		{
			ID: "river-songs", Title: "River Songs", Venue: "Lock House",
			StartsAt: time.Date(2031, time.March, 14, 20, 0, 0, 0, time.UTC), PriceCents: 2_800, Rows: 8, SeatsPerRow: 12,
		},
		{
			ID: "the-drop", Title: "The Drop", Venue: "Weir Arena",
			StartsAt: time.Date(2031, time.June, 21, 18, 0, 0, 0, time.UTC), PriceCents: 7_900, Rows: 100, SeatsPerRow: 100,
		},
	}}
}

// Show finds a show by its id.
func (p Programme) Show(id string) (Show, bool) {
	i := slices.IndexFunc(p.Shows, func(s Show) bool { return s.ID == id })
	if i < 0 {
		return Show{}, false
	}
	return p.Shows[i], true
}

func parse(text []byte) (Programme, error) {
	dec := json.NewDecoder(bytes.NewReader(text))
	dec.DisallowUnknownFields()
	var p Programme
	if err := dec.Decode(&p); err != nil {
		return Programme{}, err
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return Programme{}, errors.New("there is text after the JSON object; remove it")
	}
	if len(p.Shows) == 0 {
		return Programme{}, errors.New(`"shows" is empty; name at least one show`)
	}
	seen := make(map[string]bool, len(p.Shows))
	for i, s := range p.Shows {
		if err := s.check(); err != nil {
			return Programme{}, fmt.Errorf("shows[%d] (%q): %w", i, s.ID, err)
		}
		if seen[s.ID] {
			return Programme{}, fmt.Errorf("shows[%d]: the id %q is used twice", i, s.ID)
		}
		seen[s.ID] = true
	}
	slices.SortFunc(p.Shows, func(a, b Show) int {
		if c := a.StartsAt.Compare(b.StartsAt); c != 0 {
			return c
		}
		if a.ID < b.ID {
			return -1
		}
		return 1
	})
	return p, nil
}

// showID is the pattern that the protos demand of a show_id.
var showID = regexp.MustCompile(`^[a-z0-9][a-z0-9-]{0,63}$`)

func (s Show) check() error {
	switch {
	case !showID.MatchString(s.ID):
		return fmt.Errorf("id must match %s", showID)
	case s.Title == "":
		return errors.New("title is missing")
	case s.Venue == "":
		return errors.New("venue is missing")
	case s.StartsAt.IsZero():
		return errors.New("starts_at is missing; give a time such as 2031-03-07T19:30:00Z")
	case s.PriceCents < 1 || s.PriceCents > maxPriceCents:
		return fmt.Errorf("price_cents is %d; allowed are 1 to %d", s.PriceCents, maxPriceCents)
	case s.Rows < 1 || s.Rows > maxRows:
		return fmt.Errorf("rows is %d; allowed are 1 to %d", s.Rows, maxRows)
	case s.SeatsPerRow < 1 || s.SeatsPerRow > maxSeatsPerRow:
		return fmt.Errorf("seats_per_row is %d; allowed are 1 to %d", s.SeatsPerRow, maxSeatsPerRow)
	}
	return nil
}
