package strict

import (
	"slices"
	"strings"
)

// Near is the known word that was probably meant; false when none is near: at
// most a third of its letters may differ.
func Near(word string, known []string) (string, bool) {
	best, distance := "", -1
	for _, k := range slices.Sorted(slices.Values(known)) {
		d := edits(plain(word), plain(k))
		if d <= max(1, len(k)/3) && (distance < 0 || d < distance) {
			best, distance = k, d
		}
	}
	return best, distance >= 0
}

// Unknown says that there is no such thing, what was probably meant, and what
// there is.
func Unknown(what, word string, known []string) string {
	text := what + " \"" + word + "\""
	list := strings.Join(slices.Compact(slices.Sorted(slices.Values(known))), ", ")
	if near, ok := Near(word, known); ok {
		return text + "; did you mean \"" + near + "\"? Known: " + list
	}
	if list == "" {
		return text + "; there is none"
	}
	return text + "; known: " + list
}

// plain is a word without what people mix up: at_least, atLeast, at-least.
func plain(word string) string {
	return strings.ToLower(strings.NewReplacer("-", "", "_", "", " ", "").Replace(word))
}

// edits is how many letters have to be put in, left out, changed or swapped with
// their neighbour to make b of a: optimal string alignment.
func edits(a, b string) int {
	x, y := []rune(a), []rune(b)
	rows := make([][]int, len(x)+1)
	for i := range rows {
		rows[i] = make([]int, len(y)+1)
		rows[i][0] = i
	}
	for j := range y {
		rows[0][j+1] = j + 1
	}
	for i := range x {
		for j := range y {
			change := 0
			if x[i] != y[j] {
				change = 1
			}
			rows[i+1][j+1] = min(rows[i][j+1]+1, rows[i+1][j]+1, rows[i][j]+change)
			if i > 0 && j > 0 && x[i] == y[j-1] && x[i-1] == y[j] {
				rows[i+1][j+1] = min(rows[i+1][j+1], rows[i-1][j-1]+1)
			}
		}
	}
	return rows[len(x)][len(y)]
}
