// Package criticality is the priority of a call: how urgent its kind of person is (the class), and within a class a
// number per person (the band), so that under overload whole people are turned away and not some calls of everybody.
//
// It is set once, at the edge, and travels with every call that is made for the same person, so that all services decide
// alike: a journey is served or refused as a whole. This is the business and user priority of DAGOR (H. Zhou et al.,
// "Overload Control for Scaling WeChat Microservices", SoCC 2018, 4.2).
package criticality

import (
	"context"
	"math/rand/v2"
	"strconv"
	"strings"

	"google.golang.org/grpc/metadata"
)

// Header is the metadata key by which the priority travels between services, "<class>/<band>".
const Header = "x-spillway-priority"

// Class is how urgent a call is. Lower is more urgent.
type Class uint8

// The classes, the most urgent first.
const (
	Critical Class = iota
	Standard
	Sheddable
)

// Classes is how many classes there are.
const Classes = 3

var classNames = [Classes]string{"critical", "standard", "sheddable"}

// String is the class's name, as in metadata, metrics and scenario files.
func (c Class) String() string {
	if c >= Classes {
		return "class " + strconv.Itoa(int(c))
	}
	return classNames[c]
}

// ParseClass reads a class's name.
func ParseClass(name string) (Class, bool) {
	for i, n := range classNames {
		if n == name {
			return Class(i), true
		}
	}
	return Standard, false
}

// Band orders people of one class, 0 to Bands-1. Lower is shed later.
type Band uint8

// Bands is how many bands a class has.
const Bands = 128

// Ranks is how many priorities there are: every band of every class.
const Ranks = Classes * Bands

// Rank is the place of a priority among all, 0 to Ranks-1; lower is more urgent. A class or band that does not exist
// counts as the last.
func Rank(c Class, b Band) int {
	return int(min(c, Classes-1))*Bands + int(min(b, Bands-1))
}

// priority is one of all that there are, with its text, so that no call has to make one.
type priority struct {
	class Class
	band  Band
	text  string
}

// all holds every priority at its rank.
var all = func() (all [Ranks]priority) {
	for rank := range all {
		p := priority{class: Class(rank / Bands), band: Band(rank % Bands)}
		p.text = p.class.String() + "/" + strconv.Itoa(int(p.band))
		all[rank] = p
	}
	return all
}()

// Text is how a priority travels: "<class>/<band>". Parse reads it.
func Text(c Class, b Band) string { return all[Rank(c, b)].text }

// Parse reads what Text writes, and nothing else: no sign, no leading zero, no other letter case.
func Parse(text string) (Class, Band, bool) {
	name, digits, found := strings.Cut(text, "/")
	class, known := ParseClass(name)
	if !found || !known || digits == "" || len(digits) > 3 || digits[0] == '0' && len(digits) > 1 {
		return Standard, 0, false
	}
	band := 0
	for _, d := range []byte(digits) {
		if d < '0' || d > '9' {
			return Standard, 0, false
		}
		band = band*10 + int(d-'0')
	}
	if band >= Bands {
		return Standard, 0, false
	}
	return class, Band(band), true
}

type key struct{}

// With returns ctx with a priority: that of the call being handled, and of all calls made for it.
func With(ctx context.Context, c Class, b Band) context.Context {
	return context.WithValue(ctx, key{}, &all[Rank(c, b)])
}

// From gives the priority of the call that ctx belongs to. Without one it is Standard, band 0.
func From(ctx context.Context) (Class, Band) {
	if p, ok := ctx.Value(key{}).(*priority); ok {
		return p.class, p.band
	}
	return Standard, 0
}

// FromIncoming returns a server's context with the priority that came with the call. One that ctx has already stays: the
// edge gives priorities by itself.
//
// A call without one, or with one that is malformed or given more than once, has that of Unknown, and wellFormed tells
// which: a priority is advice for bad times, so a mistake in it is no reason to refuse a call in good
// ones; and by chance, so that of such calls too a share is shed and not all or none.
func FromIncoming(ctx context.Context) (_ context.Context, wellFormed bool) {
	if ctx.Value(key{}) != nil {
		return ctx, true
	}
	values := metadata.ValueFromIncomingContext(ctx, Header)
	if len(values) == 1 {
		if class, band, ok := Parse(values[0]); ok {
			return With(ctx, class, band), true
		}
	}
	return Unknown(ctx), len(values) == 0
}

// Unknown returns ctx with the priority of a call of which nobody knows whose it is: Standard, with a band drawn by chance.
func Unknown(ctx context.Context) context.Context { return With(ctx, Standard, Band(rand.N(Bands))) }

// Outgoing returns ctx with the priority of ctx's own call as metadata of the calls made under it, in place of one that
// was there. Without a priority ctx stays as it is: work that a service does for itself has none.
func Outgoing(ctx context.Context) context.Context {
	text, ok := Own(ctx)
	if !ok {
		return ctx
	}
	md, found := metadata.FromOutgoingContext(ctx) // a copy
	if !found {
		md = make(metadata.MD, 1)
	}
	md.Set(Header, text)
	return metadata.NewOutgoingContext(ctx, md)
}

// Own is the text of the priority in ctx, false when there is none. It allocates nothing: for those that make up metadata
// themselves.
func Own(ctx context.Context) (text string, ok bool) {
	if p, ok := ctx.Value(key{}).(*priority); ok {
		return p.text, true
	}
	return "", false
}
