package criticality_test

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	"go.uber.org/goleak"
	"google.golang.org/grpc/metadata"

	"spillway.dev/platform/criticality"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestRanksFollowUrgency(t *testing.T) {
	last := -1
	for _, class := range []criticality.Class{criticality.Critical, criticality.Standard, criticality.Sheddable} {
		for band := range criticality.Band(criticality.Bands) {
			rank := criticality.Rank(class, band)
			if rank != last+1 {
				t.Fatalf("%v/%d has rank %d, want %d", class, band, rank, last+1)
			}
			last = rank
			if c, b, ok := criticality.Parse(criticality.Text(class, band)); c != class || b != band || !ok {
				t.Errorf("%q is read as %v/%d, %v", criticality.Text(class, band), c, b, ok)
			}
		}
	}
	if last != criticality.Ranks-1 || criticality.Rank(9, 200) != last {
		t.Errorf("the last rank is %d, that of what does not exist %d", last, criticality.Rank(9, 200))
	}
}

func FuzzParse(f *testing.F) {
	for _, text := range []string{"critical/0", "standard/127", "sheddable/64", "", "/", "critical", "critical/", "Critical/1", "critical/128",
		"critical/+1", "critical/01", "critical/1/", " critical/1", "critical/1 ", "critical/99999999999999999999", "high/1", "standard/١"} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		class, band, ok := criticality.Parse(text)
		if ok != (criticality.Text(class, band) == text) && (ok || text != "standard/0") {
			t.Errorf("%q is read as %v/%d, %v", text, class, band, ok)
		}
	})
}

func incoming(ctx context.Context, values ...string) context.Context {
	return metadata.NewIncomingContext(ctx, metadata.MD{criticality.Header: values, "other": {"stays"}})
}

func TestFromIncoming(t *testing.T) {
	for name, test := range map[string]struct {
		ctx        context.Context
		class      criticality.Class
		band       int // -1: by chance
		wellFormed bool
	}{
		"one":                {incoming(t.Context(), "critical/7"), criticality.Critical, 7, true},
		"none":               {incoming(t.Context()), criticality.Standard, -1, true},
		"no metadata":        {t.Context(), criticality.Standard, -1, true},
		"malformed":          {incoming(t.Context(), "critical"), criticality.Standard, -1, false},
		"two":                {incoming(t.Context(), "critical/7", "critical/7"), criticality.Standard, -1, false},
		"given by the edge":  {criticality.With(incoming(t.Context(), "critical/7"), criticality.Sheddable, 3), criticality.Sheddable, 3, true},
		"of no class at all": {incoming(t.Context(), "urgent/7"), criticality.Standard, -1, false},
	} {
		t.Run(name, func(t *testing.T) {
			bands := map[criticality.Band]bool{}
			for range 50 {
				ctx, wellFormed := criticality.FromIncoming(test.ctx)
				class, band := criticality.From(ctx)
				bands[band] = true
				if class != test.class || wellFormed != test.wellFormed || test.band >= 0 && int(band) != test.band {
					t.Fatalf("got %v/%d, well formed: %v", class, band, wellFormed)
				}
			}
			if drawn := len(bands) > 1; drawn != (test.band < 0) {
				t.Errorf("the bands are %v", bands)
			}
		})
	}
}

func TestOutgoing(t *testing.T) {
	if _, found := metadata.FromOutgoingContext(criticality.Outgoing(t.Context())); found {
		t.Error("a service's own work goes out with a priority")
	}
	before := metadata.AppendToOutgoingContext(t.Context(), criticality.Header, "critical/0", "other", "stays")
	ctx := criticality.Outgoing(criticality.With(before, criticality.Sheddable, 5))
	md, _ := metadata.FromOutgoingContext(ctx)
	if !slices.Equal(md.Get(criticality.Header), []string{"sheddable/5"}) || !slices.Equal(md.Get("other"), []string{"stays"}) {
		t.Errorf("calls go out with %v", md)
	}
	if text, ok := criticality.Own(ctx); text != "sheddable/5" || !ok {
		t.Errorf("the call's own priority is %q, %v", text, ok)
	}
	if class, band := criticality.From(t.Context()); class != criticality.Standard || band != 0 {
		t.Errorf("without a call the priority is %v/%d", class, band)
	}
}

func TestClassOf(t *testing.T) {
	for person, want := range map[string]criticality.Class{
		"ann": criticality.Standard, "": criticality.Standard, ".critical": criticality.Standard, "critical": criticality.Standard,
		"ann.critical": criticality.Critical, "ann.b.critical": criticality.Critical, "ann.sheddable": criticality.Sheddable,
		"ann.standard": criticality.Standard, "ann.critical.b": criticality.Standard, "ann-critical": criticality.Standard,
	} {
		if got := criticality.ClassOf(person); got != want {
			t.Errorf("%q is %v, want %v", person, got, want)
		}
	}
}

// Bands are spread evenly, stay for an hour, and are others in the next.
func TestBandOf(t *testing.T) {
	const people = 128_00
	hour := time.Date(2030, 1, 1, 10, 0, 0, 0, time.UTC)
	var of [criticality.Bands]int
	moved := 0
	for i := range people {
		hash := criticality.Hash(fmt.Sprintf("load-7-%d", i))
		band := criticality.BandOf(hash, hour)
		of[band]++
		if criticality.BandOf(hash, hour.Add(time.Hour-1)) != band {
			t.Fatalf("person %d changes within the hour", i)
		}
		if criticality.BandOf(hash, hour.Add(time.Hour)) != band {
			moved++
		}
	}
	if slices.Min(of[:]) < 50 || slices.Max(of[:]) > 150 {
		t.Errorf("bands have %d to %d of %d people, want about 100", slices.Min(of[:]), slices.Max(of[:]), people)
	}
	if moved < people*98/100 {
		t.Errorf("%d of %d people are in another band in the next hour", moved, people)
	}
}

func BenchmarkFromIncoming(b *testing.B) {
	ctx := incoming(b.Context(), "standard/77")
	b.ReportAllocs()
	for b.Loop() {
		criticality.FromIncoming(ctx)
	}
}
