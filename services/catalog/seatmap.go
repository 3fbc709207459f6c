package main

import (
	"fmt"

	"spillway.dev/platform/programme"
	catalogv1 "spillway.dev/proto/gen/spillway/catalog/v1"
	inventoryv1 "spillway.dev/proto/gen/spillway/inventory/v1"
)

const (
	seatFree  = '.'
	seatTaken = 'x'
)

// seatMap draws a show's bitmap as rows of characters. Seats are numbered row by row, the first in the highest bit of the
// first byte; bytes that are missing at the end are free seats.
func seatMap(showID string, a *inventoryv1.GetAvailabilityResponse) (*catalogv1.GetSeatMapResponse, error) {
	rows, perRow := int(a.GetRows()), int(a.GetSeatsPerRow())
	if rows < 1 || perRow < 1 {
		return nil, fmt.Errorf("inventory says that show %s has %d rows of %d seats", showID, rows, perRow)
	}
	m := &catalogv1.GetSeatMapResponse{ShowId: showID, Rows: make([]*catalogv1.SeatRow, rows)}
	seats := make([]byte, perRow)
	for row := range rows {
		for i := range seats {
			if isTaken(a.GetTaken(), row*perRow+i) {
				seats[i] = seatTaken
			} else {
				seats[i] = seatFree
				m.Free++
			}
		}
		m.Rows[row] = &catalogv1.SeatRow{Row: programme.RowName(row), Seats: string(seats)}
	}
	return m, nil
}

func isTaken(bitmap []byte, seat int) bool {
	return seat/8 < len(bitmap) && bitmap[seat/8]>>(7-seat%8)&1 == 1
}
