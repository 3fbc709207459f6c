package mesh

import (
	"maps"
	"slices"
	"time"
)

// Lists are the endpoints of every service, by its name.
type Lists map[string][]Endpoint

func (l Lists) equal(other Lists) bool {
	return maps.EqualFunc(l, other, func(a, b []Endpoint) bool { return slices.Equal(a, b) })
}

// Updates is the way of endpoint lists to the control plane, on which a fault can
// hold them up or lose them. All lists travel together, so that callers see the mesh
// late and never one that was not. It reads no clock, and is not safe for concurrent use.
// The zero value passes everything at once.
type Updates struct {
	news  EndpointNews
	sent  Lists // the latest
	shown Lists // what the control plane has
	way   []update
}

type update struct {
	due   time.Time
	lists Lists
}

// Set makes the way slow or cuts it. What is under way arrives after the new delay
// at the latest, also when the way is cut: it was sent before. What was lost is made
// up for when nothing is lost any more.
func (u *Updates) Set(now time.Time, news EndpointNews) {
	if u.news.Drop && !news.Drop {
		u.way = append(u.way, update{now.Add(news.Delay), u.sent})
	}
	u.news = news
	for i, on := range u.way {
		if latest := now.Add(news.Delay); on.due.After(latest) {
			u.way[i].due = latest
		}
	}
}

// Pass sends lists on their way, when they are new, and returns those that have
// arrived and when the next ones will, or zero. The first lists arrive at once: there
// is nothing before them to be shown. The caller does not change them afterwards.
func (u *Updates) Pass(now time.Time, latest Lists) (shown Lists, next time.Time) {
	if u.shown == nil {
		u.sent, u.shown = latest, latest
	}
	if !u.sent.equal(latest) {
		u.sent = latest
		if !u.news.Drop {
			u.way = append(u.way, update{now.Add(u.news.Delay), latest})
		}
	}
	for i, on := range slices.Backward(u.way) {
		if !on.due.After(now) {
			u.shown = on.lists
			u.way = slices.Delete(u.way, 0, i+1) // with all that it overtook
			break
		}
	}
	for _, on := range u.way {
		if next.IsZero() || on.due.Before(next) {
			next = on.due
		}
	}
	return u.shown, next
}
