package load

import (
	"math/rand/v2"
	"strconv"
	"sync"

	gatewayv1 "spillway.dev/proto/gen/spillway/gateway/v1"
)

// board is what people see of the seats: the latest seat map of every show, and
// which seats somebody of this run has asked for since. Safe for concurrent use.
type board struct {
	mu    sync.Mutex
	shows []string
	maps  map[string]*seatMap
}

type seatMap struct {
	rows []*gatewayv1.SeatRow
	free int
	// Seats that the map shows free but a journey of this run has chosen: two
	// people of one run do not fight for a seat by chance.
	chosen map[seat]bool
}

// seat is a place in a seat map, from 0 on.
type seat struct{ row, number int }

func newBoard() *board { return &board{maps: make(map[string]*seatMap)} }

// list takes in what is on sale.
func (b *board) list(shows []*gatewayv1.Show) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.shows = b.shows[:0]
	for _, s := range shows {
		b.shows = append(b.shows, s.GetShowId())
	}
}

// see takes in a seat map.
func (b *board) see(m *gatewayv1.GetSeatMapResponse) {
	b.mu.Lock()
	defer b.mu.Unlock()
	known := b.maps[m.GetShowId()]
	if known == nil {
		known = &seatMap{chosen: make(map[seat]bool)}
		b.maps[m.GetShowId()] = known
	}
	known.rows, known.free = m.GetRows(), int(m.GetFree())
	for s := range known.chosen {
		if !known.isFree(s) {
			delete(known.chosen, s)
		}
	}
}

// show picks a show to look at: any that is not known to be sold out, or any at
// all when every one is. It is "" when nothing is on sale.
func (b *board) show(rng *rand.Rand) string {
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.shows) == 0 {
		return ""
	}
	first := rng.IntN(len(b.shows))
	for i := range b.shows {
		id := b.shows[(first+i)%len(b.shows)]
		if m := b.maps[id]; m == nil || m.left() > 0 {
			return id
		}
	}
	return b.shows[first]
}

// choose picks up to n free seats of one row of a show whose map is known.
// Shows come up in proportion to their free seats, so a small house is not sold
// out while a large one is empty. No seats mean that no known map has one free.
func (b *board) choose(rng *rand.Rand, n int) (show string, seats []string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	total := 0
	for _, id := range b.shows {
		if m := b.maps[id]; m != nil {
			total += m.left()
		}
	}
	if total == 0 {
		return "", nil
	}
	pick := rng.IntN(total)
	for _, id := range b.shows {
		m := b.maps[id]
		if m == nil {
			continue
		}
		if pick -= m.left(); pick < 0 {
			return id, m.take(rng, n)
		}
	}
	return "", nil
}

func (m *seatMap) isFree(s seat) bool {
	return s.row < len(m.rows) && s.number < len(m.rows[s.row].GetSeats()) && m.rows[s.row].GetSeats()[s.number] == '.'
}

// left is how many seats are there to choose from.
func (m *seatMap) left() int { return max(0, m.free-len(m.chosen)) }

// take chooses up to n free seats in one row, from a random place on.
func (m *seatMap) take(rng *rand.Rand, n int) (seats []string) {
	if len(m.rows) == 0 {
		return nil
	}
	first := rng.IntN(len(m.rows))
	for i := range m.rows {
		r := (first + i) % len(m.rows)
		width := len(m.rows[r].GetSeats())
		if width == 0 {
			continue
		}
		from := rng.IntN(width)
		for j := range width {
			s := seat{row: r, number: (from + j) % width}
			if !m.isFree(s) || m.chosen[s] {
				continue
			}
			m.chosen[s] = true
			id := m.rows[r].GetRow() + "-" + strconv.Itoa(s.number+1)
			if seats = append(seats, id); len(seats) == n {
				return seats
			}
		}
		if len(seats) > 0 {
			return seats
		}
	}
	return nil
}
