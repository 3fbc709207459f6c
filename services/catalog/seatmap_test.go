package main

import (
	"testing"

	inventoryv1 "spillway.dev/proto/gen/spillway/inventory/v1"
)

func TestSeatMap(t *testing.T) {
	for name, x := range map[string]struct {
		rows, perRow int32
		taken        []byte
		want         []string
		free         int32
	}{
		"nobody came":          {2, 3, nil, []string{"A ...", "B ..."}, 6},
		"first and last":       {2, 3, []byte{0b10000100}, []string{"A x..", "B ..x"}, 4},
		"over a byte's edge":   {2, 6, []byte{0b00000001, 0b10000000}, []string{"A ......", "B .xx..."}, 10},
		"zero bytes missing":   {3, 8, []byte{0xff}, []string{"A xxxxxxxx", "B ........", "C ........"}, 16},
		"bits past the end":    {1, 3, []byte{0xff, 0xff}, []string{"A xxx"}, 0},
		"all of an odd number": {3, 3, []byte{0xff, 0x80}, []string{"A xxx", "B xxx", "C xxx"}, 0},
	} {
		t.Run(name, func(t *testing.T) {
			m, err := seatMap("show", &inventoryv1.GetAvailabilityResponse{Rows: x.rows, SeatsPerRow: x.perRow, Taken: x.taken})
			if err != nil {
				t.Fatal(err)
			}
			if m.GetShowId() != "show" || m.GetFree() != x.free || len(m.GetRows()) != len(x.want) {
				t.Fatalf("%v", m)
			}
			for i, row := range m.GetRows() {
				if got := row.GetRow() + " " + row.GetSeats(); got != x.want[i] {
					t.Errorf("row %d is %q, want %q", i, got, x.want[i])
				}
			}
		})
	}
	if m, err := seatMap("show", &inventoryv1.GetAvailabilityResponse{}); err == nil {
		t.Errorf("a show without rows: %v", m)
	}
	const rows = 26 + 26*26
	m, err := seatMap("show", &inventoryv1.GetAvailabilityResponse{Rows: rows, SeatsPerRow: 1})
	if err != nil || m.GetRows()[26].GetRow() != "AA" || m.GetRows()[rows-1].GetRow() != "ZZ" {
		t.Errorf("the last rows: %v", err)
	}
}
