package report

import (
	"fmt"
	"math"
	"strconv"
	"strings"
)

// none stands for a number that was not measured.
const none = "–"

// number writes v with three significant digits, thousands apart; whole numbers
// stay whole.
func number(v float64) string { return numberLike(v, v) }

// numberLike writes v with as many decimals as ref has with three digits, so
// that what stands together has the same precision.
func numberLike(v, ref float64) string {
	if !finite(v) {
		return none
	}
	if v == math.Trunc(v) && ref == math.Trunc(ref) {
		return grouped(strconv.FormatFloat(v, 'f', 0, 64))
	}
	digits := 0
	if a := math.Abs(ref); a > 0 && a < 99.95 {
		digits = min(2-int(math.Floor(math.Log10(a)+1e-9)), 5)
	}
	return grouped(strconv.FormatFloat(v, 'f', digits, 64))
}

// grouped puts a comma between thousands.
func grouped(s string) string {
	if strings.Trim(s, "-0.") == "" {
		s = strings.TrimPrefix(s, "-")
	}
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

// short is a round number as a scale has it.
func short(v float64) string { return grouped(fixed(v, 4)) }

// stopwatch writes scenario seconds in little room: minutes and seconds.
func stopwatch(seconds float64) string {
	s := int(math.Round(seconds))
	return fmt.Sprintf("%d:%02d", s/60, s%60)
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
