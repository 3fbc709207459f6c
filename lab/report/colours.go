package report

import "fmt"

// colours is how many variants have a colour of their own; later ones begin
// again and differ by their letter.
const colours = 6

// steps are the lower ends of the classes of pressure. The scale runs from blue
// below 1 to orange above, and from light to dark (dark to light on a dark
// page), so that it can be read by colour-blind people and in grey.
var steps = []float64{0, 0.5, 0.8, 1, 1.5, 3}

// stepOf is the class of a pressure.
func stepOf(pressure float64) int {
	at := 0
	for i, from := range steps {
		if pressure >= from {
			at = i
		}
	}
	return at
}

// stepText says which pressures a class has.
func stepText(i int) string {
	switch {
	case i == 0:
		return "below " + short(steps[1])
	case i == len(steps)-1:
		return short(steps[i]) + " and more"
	default:
		return short(steps[i]) + " to " + short(steps[i+1])
	}
}

// toggles is the style rule that hides a variant whose box is not ticked.
func toggles(variants int) string {
	var css string
	for i := range variants {
		css += fmt.Sprintf("body:has(#show-%d:not(:checked)) .s%d{display:none}\n", i, i)
	}
	return css
}
