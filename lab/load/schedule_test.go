package load

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"math"
	"slices"
	"strings"
	"testing"
	"time"
)

// fingerprint is a hash of the schedule's bytes.
func fingerprint(p Plan) string {
	h := sha256.New()
	for a := range p.Schedule() {
		_ = binary.Write(h, binary.BigEndian, []int64{int64(a.Number), int64(a.At), int64(a.Kind), int64(a.Priority), int64(a.Person)})
		_ = binary.Write(h, binary.BigEndian, a.Draw) // a hash takes everything
	}
	return hex.EncodeToString(h.Sum(nil)[:8])
}

// shapes has one of each kind, with rates of 20 to 200.
func shapes() map[string]Shape {
	return map[string]Shape{
		"constant": {Kind: "constant", Rate: 100},
		"ramp":     {Kind: "ramp", From: 20, To: 200, At: 10 * time.Second, Over: 30 * time.Second},
		"step":     {Kind: "step", Base: 20, Steps: []Step{{At: 10 * time.Second, Rate: 200}, {At: 40 * time.Second, Rate: 50}}},
		"spike":    {Kind: "spike", Base: 20, Peak: 200, At: 20 * time.Second, For: 15 * time.Second},
		"sine":     {Kind: "sine", Base: 20, Peak: 200, Period: 25 * time.Second},
		"sawtooth": {Kind: "sawtooth", Base: 20, Peak: 200, Period: 25 * time.Second},
		"csv":      {Kind: "csv", File: "rates.csv", rows: []Step{{At: 5 * time.Second, Rate: 120}, {At: 30 * time.Second, Rate: 0}, {At: 45 * time.Second, Rate: 60}}},
	}
}

func planOf(s Shape) Plan { return Plan{Shape: s, For: time.Minute, Seed: 7} }

func TestTheScheduleOfAPlanIsAlwaysTheSame(t *testing.T) {
	golden := map[string]string{
		"constant": "1bf73ee9d9f4935e", "ramp": "d16824009382cd87", "step": "2836ec01f901cc7b", "spike": "767f8c1292fb69c3", "sine": "903c1832b3964f71", "sawtooth": "64acd423a5fab80e", "csv": "1be3420edb2fd491",
	}
	for kind, s := range shapes() {
		p := planOf(s)
		p.Journeys = map[string]Journey{"browse": {Share: 0.5}, "seatmap": {Share: 0.3}, "buy": {Share: 0.2}}
		p.Priorities = map[string]float64{"critical": 0.1, "standard": 0.6, "sheddable": 0.3}
		if got := fingerprint(p); got != golden[kind] {
			t.Errorf("%s: the schedule hashes to %s, want %s: recorded runs cannot be made again", kind, got, golden[kind])
		}
		other := p
		other.Seed++
		if fingerprint(other) == fingerprint(p) {
			t.Errorf("%s: two seeds gave one schedule", kind)
		}
	}
	even := planOf(shapes()["ramp"])
	even.Arrivals, even.Timelapse = Constant, 4
	if got := fingerprint(even); got != "e001ad17d27b8fea" {
		t.Errorf("constant arrivals: the schedule hashes to %s", got)
	}
}

func TestArrivalsAreAPoissonProcess(t *testing.T) {
	p := Default()
	p.Shape.Rate, p.For, p.Journeys = 200, 100*time.Second, map[string]Journey{"browse": {Share: 0.8}, "buy": {Share: 0.2}}
	arrivals := slices.Collect(p.Schedule())
	n := float64(len(arrivals))
	if want := 20_000.0; math.Abs(n-want) > 4*math.Sqrt(want) {
		t.Errorf("arrivals: got %v, want %v within four standard deviations", n, want)
	}
	var gaps, squares float64
	var buys int
	last := time.Duration(0)
	for i, a := range arrivals {
		if a.Number != i || a.At < last || a.At >= p.For || a.Person < 0 || a.Person >= p.People || a.Priority != Standard {
			t.Fatalf("arrival %d is out of order or out of bounds: %+v", i, a)
		}
		gap := (a.At - last).Seconds()
		gaps, squares, last = gaps+gap, squares+gap*gap, a.At
		if a.Kind == Buy {
			buys++
		}
	}
	// The standard deviation of an exponential distribution is its mean.
	mean := gaps / n
	if cv := math.Sqrt(squares/n-mean*mean) / mean; math.Abs(cv-1) > 0.03 {
		t.Errorf("coefficient of variation of the gaps: got %.3f, want 1", cv)
	}
	if got := float64(buys) / n; math.Abs(got-0.2) > 0.015 {
		t.Errorf("share of purchases: got %.3f, want 0.2", got)
	}
}

// The integral is in closed form, RateAt is not made from it: numerical
// integration of the one has to give the other.
func TestExpectedArrivalsAreTheIntegralOfTheRate(t *testing.T) {
	for kind, s := range shapes() {
		integral := s.integral()
		total := 0.0
		const step = time.Millisecond
		for at := time.Duration(0); at < time.Minute; at += step {
			total += s.RateAt(at+step/2) * step.Seconds()
			if got := integral((at + step).Seconds()); math.Abs(got-total) > 0.2 {
				t.Fatalf("%s: %v arrivals are expected by %s, the rate adds up to %v", kind, got, at+step, total)
			}
		}
	}
}

// Within every five seconds there are as many Poisson arrivals as the shape says,
// within what chance allows; of many seeds together.
func TestPoissonArrivalsFollowTheShape(t *testing.T) {
	const seeds, bucket = 10, 5 * time.Second
	for kind, s := range shapes() {
		var got [12]float64
		for seed := range uint64(seeds) {
			p := planOf(s)
			p.Seed = seed
			for a := range p.Schedule() {
				got[a.At/bucket]++
			}
		}
		integral := s.integral()
		chi, free := 0.0, 0.0
		for i, n := range got {
			from, to := (time.Duration(i) * bucket).Seconds(), (time.Duration(i+1) * bucket).Seconds()
			want := seeds * (integral(to) - integral(from))
			if want < 1e-9 {
				if n != 0 {
					t.Errorf("%s: %v arrivals from %v to %v s, where the rate is 0", kind, n, from, to)
				}
				continue
			}
			chi, free = chi+(n-want)*(n-want)/want, free+1
		}
		// Chi squared: its mean is its degrees of freedom, its variance twice that.
		if chi > free+5*math.Sqrt(2*free) {
			t.Errorf("%s: chi squared is %.1f with %v degrees of freedom", kind, chi, free)
		}
	}
}

func TestConstantArrivalsAreEven(t *testing.T) {
	p := planOf(Shape{Kind: "constant", Rate: 40})
	p.Arrivals = Constant
	for a := range p.Schedule() {
		want := time.Duration(a.Number)*25*time.Millisecond + 12500*time.Microsecond
		if (a.At - want).Abs() > time.Microsecond {
			t.Fatalf("arrival %d is at %s, want %s", a.Number, a.At, want)
		}
	}
	for kind, s := range shapes() {
		p := planOf(s)
		p.Arrivals = Constant
		integral, n := s.integral(), 0
		for a := range p.Schedule() {
			if got := integral(a.At.Seconds()); math.Abs(got-float64(n)-0.5) > 3e-4 {
				t.Fatalf("%s: arrival %d is at %s, when %v are expected", kind, n, a.At, got)
			}
			n++
		}
		if want := integral(60); math.Abs(float64(n)-want) > 1 {
			t.Errorf("%s: %d arrivals, want %v", kind, n, want)
		}
	}
}

func TestTimelapseShortensTimeAndKeepsRates(t *testing.T) {
	p := planOf(shapes()["spike"])
	p.Arrivals, p.Timelapse = Constant, 10
	if p.Real() != 6*time.Second {
		t.Fatalf("a minute takes %s", p.Real())
	}
	before, within := 0, 0
	for a := range p.Schedule() {
		switch {
		case a.At < 2*time.Second:
			before++
		case a.At < 3500*time.Millisecond:
			within++
		}
	}
	if before != 40 || within < 299 || within > 301 {
		t.Errorf("got %d arrivals in 2 s at 20/s and %d in 1.5 s at 200/s", before, within)
	}
}

func TestSharesAreKept(t *testing.T) {
	p := planOf(Shape{Kind: "constant", Rate: 1000})
	p.Journeys = map[string]Journey{"seatmap": {Share: 0.5}, "buy": {Share: 0.3}, "list": {Share: 0.2}}
	p.Priorities = map[string]float64{"critical": 0.25, "sheddable": 0.75}
	var kind [kinds]float64
	var level [priorities]float64
	n := 0.0
	for a := range p.Schedule() {
		kind[a.Kind]++
		level[a.Priority]++
		n++
	}
	near := func(got, want float64) bool { return math.Abs(got/n-want) < 0.01 }
	if kind[Browse] != 0 || !near(kind[SeatMap], 0.5) || !near(kind[Buy], 0.3) || !near(kind[List], 0.2) {
		t.Errorf("journeys: got %v of %v", kind, n)
	}
	if level[Standard] != 0 || !near(level[Critical], 0.25) || !near(level[Sheddable], 0.75) {
		t.Errorf("priorities: got %v of %v", level, n)
	}
}

// A person is of one priority, and of each there are as many as its share says.
func TestPeopleAreOfOnePriority(t *testing.T) {
	p := planOf(Shape{Kind: "constant", Rate: 2000})
	for people, want := range map[int][priorities]int{200: {20, 140, 40}, 3: {1, 1, 1}, 4: {1, 2, 1}, 7: {1, 5, 1}} {
		p.People, p.Priorities = people, map[string]float64{"critical": 0.1, "standard": 0.7, "sheddable": 0.2}
		if err := p.Validate(); err != nil {
			t.Fatal(err)
		}
		of := make(map[int]Priority)
		for a := range p.Schedule() {
			if was, known := of[a.Person]; known && was != a.Priority {
				t.Fatalf("of %d people, number %d is both %v and %v", people, a.Person, was, a.Priority)
			}
			of[a.Person] = a.Priority
		}
		var got [priorities]int
		for person, of := range of {
			if person < 0 || person >= people {
				t.Fatalf("there is no number %d of %d", person, people)
			}
			got[of]++
		}
		if got != want {
			t.Errorf("of %d people, %v came of each priority, want %v", people, got, want)
		}
	}
	p.People = 2
	if err := p.Validate(); err == nil || !strings.Contains(err.Error(), "people is 2") {
		t.Errorf("two people of three priorities: got %v", err)
	}
}

func TestTimesDoNotDependOnTheMix(t *testing.T) {
	one, other := planOf(shapes()["sine"]), planOf(shapes()["sine"])
	other.Journeys = map[string]Journey{"buy": {Share: 1}}
	other.People = 3
	a, b := slices.Collect(one.Schedule()), slices.Collect(other.Schedule())
	if len(a) != len(b) || a[100].At != b[100].At {
		t.Error("another mix changed the times")
	}
}
