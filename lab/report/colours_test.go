package report

import (
	"fmt"
	"math"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

type rgb [3]float64 // linear light, 0 to 1

// themes are the colours of the style sheet by name, light and dark.
func themes(t *testing.T) map[string]map[string]rgb {
	t.Helper()
	blocks := regexp.MustCompile(`:root \{([^}]*--page[^}]*)\}`).FindAllStringSubmatch(styleText, -1)
	if len(blocks) != 2 {
		t.Fatalf("%d blocks of colours, want light and dark", len(blocks))
	}
	out := map[string]map[string]rgb{}
	for i, name := range []string{"light", "dark"} {
		out[name] = map[string]rgb{}
		for _, m := range regexp.MustCompile(`--([a-z0-9-]+): #([0-9a-f]{6})`).FindAllStringSubmatch(blocks[i][1], -1) {
			n, err := strconv.ParseUint(m[2], 16, 32)
			if err != nil {
				t.Fatal(err)
			}
			var c rgb
			for j := range 3 {
				c[j] = linear(float64(n>>(16-8*j)&255) / 255)
			}
			out[name][m[1]] = c
		}
	}
	if len(out["dark"]) != len(out["light"]) {
		t.Errorf("%d dark colours for %d light ones", len(out["dark"]), len(out["light"]))
	}
	return out
}

func linear(v float64) float64 {
	if v <= 0.04045 {
		return v / 12.92
	}
	return math.Pow((v+0.055)/1.055, 2.4)
}

func (c rgb) luminance() float64 { return 0.2126*c[0] + 0.7152*c[1] + 0.0722*c[2] }

// contrast is that of WCAG 2.2, 1 to 21.
func contrast(a, b rgb) float64 {
	x, y := a.luminance(), b.luminance()
	return (max(x, y) + 0.05) / (min(x, y) + 0.05)
}

// Text has at least 4.5, what is drawn at least 3 (WCAG 2.2, 1.4.3 and 1.4.11).
func TestContrast(t *testing.T) {
	const text, drawn = 4.5, 3
	type pair struct {
		front, back string
		least       float64
	}
	pairs := []pair{{"ink", "page", 7}, {"ink", "raised", 7}, {"soft", "page", text}, {"soft", "raised", text}, {"link", "page", text},
		{"good", "page", text}, {"bad", "page", text}, {"on-bad", "bad-page", text}, {"fault", "page", text}, {"fault", "band", text},
		{"rule", "page", drawn}, {"rule", "band", drawn}, {"area-edge", "page", drawn}, {"soft", "warm", text}, {"bad", "raised", text}}
	for i := range colours {
		c := fmt.Sprintf("c%d", i)
		pairs = append(pairs, pair{c, "page", text}, pair{c, "band", drawn}, pair{c, "warm", drawn}, pair{c, "area", drawn})
	}
	for i := range steps {
		pairs = append(pairs, pair{fmt.Sprintf("on%d", i), fmt.Sprintf("p%d", i), text})
	}
	for name, colour := range themes(t) {
		for _, p := range pairs {
			front, a := colour[p.front]
			back, b := colour[p.back]
			if !a || !b {
				t.Fatalf("%s has no colour %s or %s", name, p.front, p.back)
			}
			if got := contrast(front, back); got < p.least {
				t.Errorf("%s: %s on %s has a contrast of %.2f, less than %g", name, p.front, p.back, got, p.least)
			}
		}
	}
}

// sights turn linear RGB into what people see: the matrices for full protanopia
// and deuteranopia of Machado, Oliveira and Fernandes (2009).
var sights = map[string][3][3]float64{
	"all colours":  {{1, 0, 0}, {0, 1, 0}, {0, 0, 1}},
	"protanopia":   {{0.152286, 1.052583, -0.204868}, {0.114503, 0.786281, 0.099216}, {-0.003882, -0.048116, 1.051998}},
	"deuteranopia": {{0.367322, 0.860646, -0.227968}, {0.280085, 0.672501, 0.047413}, {-0.011820, 0.042940, 0.968881}},
}

func seen(c rgb, sight [3][3]float64) rgb {
	var out rgb
	for i := range 3 {
		out[i] = min(max(sight[i][0]*c[0]+sight[i][1]*c[1]+sight[i][2]*c[2], 0), 1)
	}
	return out
}

// apart is the distance of two colours in CIELAB; about 2 can just be told.
func apart(a, b rgb) float64 {
	lab := func(c rgb) [3]float64 {
		f := func(v float64) float64 {
			if v > 0.008856 {
				return math.Cbrt(v)
			}
			return 7.787*v + 16.0/116
		}
		x := f((0.4124*c[0] + 0.3576*c[1] + 0.1805*c[2]) / 0.95047)
		y := f(c.luminance())
		z := f((0.0193*c[0] + 0.1192*c[1] + 0.9505*c[2]) / 1.08883)
		return [3]float64{116*y - 16, 500 * (x - y), 200 * (y - z)}
	}
	p, q := lab(a), lab(b)
	return math.Sqrt((p[0]-q[0])*(p[0]-q[0]) + (p[1]-q[1])*(p[1]-q[1]) + (p[2]-q[2])*(p[2]-q[2]))
}

// The scale of pressure is told apart by everyone, and runs one way in grey.
func TestPressureScale(t *testing.T) {
	for name, colour := range themes(t) {
		for i := 1; i < len(steps); i++ {
			a, b := colour[fmt.Sprintf("p%d", i-1)], colour[fmt.Sprintf("p%d", i)]
			for sight, matrix := range sights {
				if d := apart(seen(a, matrix), seen(b, matrix)); d < 9 {
					t.Errorf("%s, %s: classes %d and %d are %.1f apart", name, sight, i-1, i, d)
				}
			}
			if darker := b.luminance() < a.luminance(); darker != (name == "light") {
				t.Errorf("%s: in grey, class %d does not go on from class %d", name, i, i-1)
			}
		}
		// Where it drowns begins is the one step that nobody may miss.
		for sight, matrix := range sights {
			if d := apart(seen(colour["p2"], matrix), seen(colour["p3"], matrix)); d < 40 {
				t.Errorf("%s, %s: below and above 1 are only %.1f apart", name, sight, d)
			}
		}
	}
}

// The first four variants, more than most scenarios have, differ for everyone
// by colour alone; all have a letter and a dash.
func TestVariantColours(t *testing.T) {
	for name, colour := range themes(t) {
		for i := range 4 {
			for j := range i {
				for sight, matrix := range sights {
					if d := apart(seen(colour[fmt.Sprintf("c%d", i)], matrix), seen(colour[fmt.Sprintf("c%d", j)], matrix)); d < 11 {
						t.Errorf("%s, %s: variants %s and %s are only %.1f apart", name, sight, letter(i), letter(j), d)
					}
				}
			}
		}
	}
	for i := range colours {
		if !strings.Contains(styleText, fmt.Sprintf(".c%d { color: var(--c%d); }", i, i)) {
			t.Errorf("the style sheet has no class for colour %d", i)
		}
	}
}

func TestStepOf(t *testing.T) {
	for v, want := range map[float64]int{0: 0, 0.49: 0, 0.5: 1, 0.99: 2, 1: 3, 1.49: 3, 1.5: 4, 2.99: 4, 3: 5, 80: 5} {
		if got := stepOf(v); got != want {
			t.Errorf("a pressure of %v is in class %d, want %d", v, got, want)
		}
	}
	if pressureClass(math.NaN()) != "" {
		t.Error("no pressure has a colour")
	}
}
