package load

import (
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestDefaultIsValid(t *testing.T) {
	if err := Default().Validate(); err != nil {
		t.Error(err)
	}
}

func TestValidateNamesWhatIsWrong(t *testing.T) {
	for want, change := range map[string]func(*Plan){
		`shape.kind is ""; give one of constant, ramp`:                    func(p *Plan) { p.Shape = Shape{} },
		"shape.rate is missing or 0":                                      func(p *Plan) { p.Shape.Rate = 0 },
		"shape.rate is NaN":                                               func(p *Plan) { p.Shape.Rate = math.NaN() },
		"shape.rate is 200000":                                            func(p *Plan) { p.Shape.Rate = 200_000 },
		"shape.peak does not belong to the kind constant, which has rate": func(p *Plan) { p.Shape.Peak = 5 },
		"shape.at is -1s":                                                 func(p *Plan) { p.Shape = Shape{Kind: "ramp", To: 5, Over: time.Second, At: -time.Second} },
		"shape.over is missing or 0; the kind ramp needs it":              func(p *Plan) { p.Shape = Shape{Kind: "ramp", To: 5} },
		"shape.peak is 5, below the base of 6":                            func(p *Plan) { p.Shape = Shape{Kind: "sine", Base: 6, Peak: 5, Period: time.Second} },
		"shape.steps[1].at is 2s; times have to rise": func(p *Plan) {
			p.Shape = Shape{Kind: "step", Steps: []Step{{2 * time.Second, 5}, {2 * time.Second, 6}}}
		},
		"shape.steps[0].rate is -1":               func(p *Plan) { p.Shape = Shape{Kind: "step", Steps: []Step{{2 * time.Second, -1}}} },
		"shape.file x.csv has not been read":      func(p *Plan) { p.Shape = Shape{Kind: "csv", File: "x.csv"} },
		"shape offers nothing within the 1s":      func(p *Plan) { p.For, p.Shape = time.Second, Shape{Kind: "spike", Peak: 5, At: time.Minute, For: 1} },
		"for is 0s":                               func(p *Plan) { p.For = 0 },
		`arrivals is "often"`:                     func(p *Plan) { p.Arrivals = "often" },
		"people is -1":                            func(p *Plan) { p.People = -1 },
		"timelapse is 0.5":                        func(p *Plan) { p.Timelapse = 0.5 },
		"journeys.sell is not known; give one of": func(p *Plan) { p.Journeys = map[string]Journey{"sell": {Share: 1}} },
		"journeys.buy has the share 1.5":          func(p *Plan) { p.Journeys = map[string]Journey{"buy": {Share: 1.5}} },
		"journeys have shares that add up to 0.9": func(p *Plan) {
			p.Journeys = map[string]Journey{"buy": {Share: 0.5}, "browse": {Share: 0.4}}
		},
		"journeys.buy.deadline is 2m0s":           func(p *Plan) { p.Journeys = map[string]Journey{"buy": {Share: 1, Deadline: 2 * time.Minute}} },
		"priorities.urgent is not known":          func(p *Plan) { p.Priorities = map[string]float64{"urgent": 1} },
		"priorities have shares that add up to 2": func(p *Plan) { p.Priorities = map[string]float64{"critical": 1, "standard": 1} },
	} {
		p := Default()
		change(&p)
		if err := p.Validate(); err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("got %v, want an error that begins with %q", err, want)
		}
	}
}

func TestRateAt(t *testing.T) {
	s := shapes()
	for _, c := range []struct {
		kind string
		at   time.Duration
		want float64
	}{
		{"constant", 0, 100},
		{"ramp", 0, 20}, {"ramp", 10 * time.Second, 20}, {"ramp", 25 * time.Second, 110}, {"ramp", time.Hour, 200},
		{"step", 9999 * time.Millisecond, 20}, {"step", 10 * time.Second, 200}, {"step", 39 * time.Second, 200}, {"step", time.Hour, 50},
		{"spike", 19 * time.Second, 20}, {"spike", 20 * time.Second, 200}, {"spike", 35 * time.Second, 20},
		{"sine", 0, 20}, {"sine", 12500 * time.Millisecond, 200}, {"sine", 6250 * time.Millisecond, 110}, {"sine", 25 * time.Second, 20},
		{"sawtooth", 0, 20}, {"sawtooth", 12500 * time.Millisecond, 110}, {"sawtooth", 25 * time.Second, 20}, {"sawtooth", 49999 * time.Millisecond, 199.9928},
		{"csv", 4 * time.Second, 0}, {"csv", 5 * time.Second, 120}, {"csv", 31 * time.Second, 0}, {"csv", time.Hour, 60},
	} {
		if got := s[c.kind].RateAt(c.at); math.Abs(got-c.want) > 1e-6 {
			t.Errorf("%s at %s: got %v, want %v", c.kind, c.at, got, c.want)
		}
	}
}

func TestReadRates(t *testing.T) {
	rows, err := readRates(strings.NewReader("# peak of a sale\nseconds,rate\n0, 10\n\n60.5,250\n"))
	if err != nil || len(rows) != 2 || rows[0] != (Step{0, 10}) || rows[1] != (Step{60500 * time.Millisecond, 250}) {
		t.Errorf("got %v, %v", rows, err)
	}
	for text, want := range map[string]string{
		"":                         "it has no rows",
		"seconds,rate\n":           "it has no rows",
		"0,10\nsoon,20\n":          `2:1: "soon" is no number`,
		"0,10\n10,many\n":          `2:4: "many" is no number`,
		"seconds,rate\n5,1\n5,2\n": "3:1: the time is 5 s; times have to rise",
		"0,-4\n":                   "1:3: the rate is -4",
		"0,NaN\n":                  "1:3: the rate is NaN",
		"NaN,1\n":                  "1:1: the time is NaN",
		"0,1,2\n":                  "record on line 1: wrong number of fields",
	} {
		if _, err := readRates(strings.NewReader(text)); err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%q: got %v, want %q", text, err, want)
		}
	}
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestReadPlan(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "drop.yaml")
	write(t, filepath.Join(dir, "rates.csv"), "0,5\n10,50\n")
	write(t, path, `
shape: {kind: csv, file: rates.csv}
for: 2m
arrivals: constant
people: 30
journeys:
  browse: {share: 0.7, deadline: 1500ms}
  seatmap: {share: 0.1}
  buy: {share: 0.2, deadline: 3s}
priorities: {critical: 0.5, sheddable: 0.5}
`)
	p, err := ReadPlan(path)
	if err != nil {
		t.Fatal(err)
	}
	if p.For != 2*time.Minute || p.Arrivals != Constant || p.People != 30 || p.Journeys["browse"] != (Journey{0.7, 1500 * time.Millisecond}) ||
		p.Priorities["critical"] != 0.5 || p.Shape.RateAt(10*time.Second) != 50 || p.Shape.File != filepath.Join(dir, "rates.csv") {
		t.Errorf("got %+v", p)
	}
	if d := p.withDefaults().deadlines(); d != [kinds]time.Duration{1500 * time.Millisecond, 2 * time.Second, 3 * time.Second} {
		t.Errorf("deadlines: got %v", d)
	}
}

func TestAPlanWithAMistakeNamesItsPlace(t *testing.T) {
	path := filepath.Join(t.TempDir(), "plan.yaml")
	for text, want := range map[string]string{
		"shape: {kind: constant, rate: 5}\nfor: 1m\nperson: 4\n":                    ":3:1: ",
		"shape: {kind: constant, rates: 5}\nfor: 1m\n":                              ":1:25: ",
		"shape: {kind: ramp, to: 5, over: 1s, peak: 4}\nfor: 1m\n":                  ":1:44: shape.peak does not belong to the kind ramp",
		"shape: {kind: constant, rate: fast}\nfor: 1m\n":                            ":1:31: ",
		"shape: {kind: constant, rate: 5}\nfor: soon\n":                             ":2:6: ",
		"shape: {kind: constant, rate: 5}\nfor: 1m\njourneys:\n  buy: {share: 3}\n": ":4:8: journeys.buy has the share 3",
		"shape: {kind: csv, file: none.csv}\nfor: 1m\n":                             ":1:26: shape.file: open ",
	} {
		write(t, path, text)
		if _, err := ReadPlan(path); err == nil || !strings.Contains(err.Error(), path+want) {
			t.Errorf("%q: got %v, want the place %s", text, err, want)
		}
	}
	if _, err := ReadPlan(filepath.Join(t.TempDir(), "none.yaml")); err == nil {
		t.Error("want an error: there is no such file")
	}
}

func TestTheDocumentedPlanIsValid(t *testing.T) {
	text, err := os.ReadFile(filepath.Join("..", "..", "docs", "load.md"))
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(text), "```yaml\n")
	example, _, found := strings.Cut(rest, "```")
	if !found {
		t.Fatal("docs/load.md shows no plan")
	}
	path := filepath.Join(t.TempDir(), "plan.yaml")
	write(t, path, example)
	if _, err := ReadPlan(path); err != nil {
		t.Error(err)
	}
	for _, name := range kindNames {
		if !strings.Contains(string(text), "`"+name+"`") {
			t.Errorf("docs/load.md does not explain the journey %s", name)
		}
	}
	for _, kind := range shapeKinds {
		if !strings.Contains(string(text), "| `"+kind+"` |") {
			t.Errorf("docs/load.md does not explain the shape %s", kind)
		}
	}
}
