package report

import (
	"fmt"
	"math"
	"strconv"
	"strings"
)

// none stands for a number that was not measured.
const none = "–"

// number writes v with three significant digits, thousands apart.
func number(v float64) string {
	if !finite(v) {
		return none
	}
	digits := 0
	if a := math.Abs(v); a > 0 && a < 99.95 && v != math.Trunc(v) {
		digits = 2 - int(math.Floor(math.Log10(a)+1e-9))
	}
	return grouped(fixed(v, min(max(digits, 0), 5)))
}

// grouped puts a comma between thousands.
func grouped(s string) string {
	sign := ""
	if strings.HasPrefix(s, "-") {
		sign, s = "−", s[1:]
	}
	whole, fraction, dotted := strings.Cut(s, ".")
	var b strings.Builder
	for i, r := range whole {
		if i > 0 && (len(whole)-i)%3 == 0 {
			b.WriteByte(',')
		}
		b.WriteRune(r)
	}
	if dotted {
		b.WriteByte('.')
		b.WriteString(fraction)
	}
	return sign + b.String()
}

// clock writes scenario seconds as a person says them.
func clock(seconds float64) string {
	if !finite(seconds) {
		return none
	}
	s := int(math.Round(seconds))
	switch {
	case s < 0:
		return "−" + clock(-seconds)
	case s < 60:
		return strconv.Itoa(s) + " s"
	case s < 3600 && s%60 == 0:
		return strconv.Itoa(s/60) + " min"
	case s < 3600:
		return fmt.Sprintf("%d min %02d s", s/60, s%60)
	case s%3600 == 0:
		return strconv.Itoa(s/3600) + " h"
	default:
		return fmt.Sprintf("%d h %02d min", s/3600, s%3600/60)
	}
}

func count(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return grouped(strconv.Itoa(n)) + " " + noun + "s"
}

// sentence ends s as a sentence ends.
func sentence(s string) string {
	s = strings.TrimSpace(s)
	if s == "" || strings.ContainsAny(s[len(s)-1:], ".!?") {
		return s
	}
	return s + "."
}

// letter is the short name of the i-th variant on a page: A, B, … Z, A2 ….
func letter(i int) string {
	s := string(rune('A' + i%26))
	if i >= 26 {
		s += strconv.Itoa(i/26 + 1)
	}
	return s
}
