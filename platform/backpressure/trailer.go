package backpressure

import (
	"context"
	"math"
	"strconv"
	"sync/atomic"

	"google.golang.org/grpc/metadata"
)

// Header is the key of the trailer: a pressure as a decimal number, such as "1.25".
const Header = "x-spillway-pressure"

// most bounds what is told and believed.
const most = 1000.0

// Text writes a pressure as it travels, to three decimals.
func Text(pressure float64) string {
	return strconv.FormatFloat(min(max(pressure, 0), most), 'f', 3, 64)
}

// Parse reads what Text writes; false for everything else.
func Parse(text string) (pressure float64, ok bool) {
	if len(text) < 5 || len(text) > 8 || text[len(text)-4] != '.' {
		return 0, false
	}
	for i := range len(text) {
		if c := text[i]; (c < '0' || c > '9') && i != len(text)-4 {
			return 0, false
		}
	}
	pressure, err := strconv.ParseFloat(text, 64)
	return pressure, err == nil && pressure <= most
}

// fromTrailer is the pressure that an answer told; false when it told none.
func fromTrailer(md metadata.MD) (float64, bool) {
	values := md[Header]
	if len(values) != 1 {
		return 0, false
	}
	return Parse(values[0])
}

// Tightest is the highest pressure that one call has heard of. It is safe for concurrent use: a call may have several
// calls under way.
type Tightest struct{ bits atomic.Uint64 }

// Note takes a pressure into account.
func (t *Tightest) Note(pressure float64) {
	for {
		old := t.bits.Load()
		if !(pressure > math.Float64frombits(old)) || t.bits.CompareAndSwap(old, math.Float64bits(pressure)) {
			return
		}
	}
}

// Pressure is the highest one noted; 0 for none.
func (t *Tightest) Pressure() float64 { return math.Float64frombits(t.bits.Load()) }

type key struct{}

// With returns a context whose calls, made by a client with Unary, are noted in t.
func With(ctx context.Context, t *Tightest) context.Context { return context.WithValue(ctx, key{}, t) }

func from(ctx context.Context) *Tightest {
	t, _ := ctx.Value(key{}).(*Tightest)
	return t
}
