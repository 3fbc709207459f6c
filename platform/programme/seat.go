package programme

import (
	"fmt"
	"strconv"
	"strings"
)

// Seats is the number of seats of the show.
func (s Show) Seats() int { return s.Rows * s.SeatsPerRow }

// SeatIndex turns a seat id such as "B-3" into the seat's number in the show:
// row by row from zero, so B-3 of a show with ten seats a row is 12. It is an
// error when the show has no such seat.
func (s Show) SeatIndex(id string) (int, error) {
	row, number, found := strings.Cut(id, "-")
	if !found {
		return 0, fmt.Errorf("seat %q: a seat id is a row, a hyphen and a number, such as B-3", id)
	}
	r, ok := rowIndex(row)
	if !ok || r >= s.Rows {
		return 0, fmt.Errorf("seat %q: the rows of show %s are A to %s", id, s.ID, RowName(s.Rows-1))
	}
	n, err := strconv.Atoi(number)
	if err != nil || n < 1 || n > s.SeatsPerRow || number != strconv.Itoa(n) {
		return 0, fmt.Errorf("seat %q: the seats of a row of show %s are 1 to %d", id, s.ID, s.SeatsPerRow)
	}
	return r*s.SeatsPerRow + n - 1, nil
}

// SeatID is the inverse of SeatIndex. The index must be one of the show's.
func (s Show) SeatID(index int) string {
	return RowName(index/s.SeatsPerRow) + "-" + strconv.Itoa(index%s.SeatsPerRow+1)
}

// RowName names a row by its number from zero: A to Z, then AA to ZZ.
func RowName(row int) string {
	if row < 26 {
		return string(rune('A' + row))
	}
	row -= 26
	return string([]byte{byte('A' + row/26), byte('A' + row%26)})
}

func rowIndex(name string) (int, bool) {
	for i := range len(name) {
		if name[i] < 'A' || name[i] > 'Z' {
			return 0, false
		}
	}
	switch len(name) {
	case 1:
		return int(name[0] - 'A'), true
	case 2:
		return 26 + int(name[0]-'A')*26 + int(name[1]-'A'), true
	}
	return 0, false
}
