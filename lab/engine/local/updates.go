package local

import (
	"maps"
	"slices"
	"time"

	"spillway.dev/platform/mesh"
)

// lists are the endpoints of every service, by its name.
type lists map[string][]mesh.Endpoint

func (l lists) equal(other lists) bool {
	return maps.EqualFunc(l, other, func(a, b []mesh.Endpoint) bool { return slices.Equal(a, b) })
}

// updates is the way of endpoint lists to the control plane, on which a fault can
// hold them up or lose them. All lists travel together, so that callers see the mesh
// late and never one that was not. It reads no clock; Engine.mu guards it.
type updates struct {
	delay time.Duration
	drop  bool
	sent  lists // the latest
	shown lists // what the control plane has
	way   []update
}

type update struct {
	due   time.Time
	lists lists
}

// set makes the way slow or cuts it. What is under way arrives after the new delay
// at the latest, also when the way is cut: it was sent before. What was lost is made
// up for when nothing is lost any more.
func (u *updates) set(now time.Time, delay time.Duration, drop bool) {
	if u.drop && !drop {
		u.way = append(u.way, update{now.Add(delay), u.sent})
	}
	u.delay, u.drop = delay, drop
	for i, on := range u.way {
		if latest := now.Add(delay); on.due.After(latest) {
			u.way[i].due = latest
		}
	}
}

// pass sends lists on their way, when they are new, and returns those that have
// arrived and when the next ones will, or zero.
func (u *updates) pass(now time.Time, latest lists) (shown lists, next time.Time) {
	if u.shown == nil {
		u.sent, u.shown = latest, latest
	}
	if !u.sent.equal(latest) {
		u.sent = latest
		if !u.drop {
			u.way = append(u.way, update{now.Add(u.delay), latest})
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

// SetEndpointUpdates has the control plane learn of endpoints that come and go only
// after a delay, or not at all. Front doors, ClusterIPs and WatchEndpoints are not
// concerned, nor are faults and knobs. With 0 and false the latest endpoints are told
// at once.
func (e *Engine) SetEndpointUpdates(delay time.Duration, drop bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.updates.set(time.Now(), delay, drop)
	e.wakeUp()
}
