package fault

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"strconv"
	"time"

	"google.golang.org/protobuf/encoding/protojson"

	faultv1 "spillway.dev/proto/gen/spillway/fault/v1"
)

// Kept is what an injector has in force, for one that takes over from it: where a
// mesh outlives the program that broke it. It is written as JSON.
type Kept struct {
	// Last is the number of the fault that began last.
	Last int `json:"last,omitempty"`
	// Faults are ActiveFaults in the JSON of protocol buffers.
	Faults []json.RawMessage `json:"faults,omitempty"`
	// Knobs were set by hand, by service and name.
	Knobs map[string]map[string]string `json:"knobs,omitempty"`
	// Defaults of knobs that faults turn.
	Defaults map[string]map[string]string `json:"defaults,omitempty"`
}

// Keep tells what is in force.
func (i *Injector) Keep() (Kept, error) {
	i.mu.Lock()
	defer i.mu.Unlock()
	out := Kept{Last: i.last, Knobs: i.set.clone(), Defaults: i.defaults.clone()}
	maps.DeleteFunc(out.Knobs, func(_ string, own map[string]string) bool { return len(own) == 0 })
	for _, a := range i.active {
		text, err := protojson.Marshal(a.proto())
		if err != nil {
			return Kept{}, fmt.Errorf("write down fault %s: %w", a.id, err)
		}
		out.Faults = append(out.Faults, text)
	}
	return out, nil
}

// Restore takes over what another injector had in force, before anything else is
// asked of this one: the mesh is as that one left it. Faults whose time is over by
// now are ended. Those that pause replicas are not taken over.
func (i *Injector) Restore(ctx context.Context, kept Kept) error {
	i.steer.Lock()
	defer i.steer.Unlock()
	var over []*active
	i.mu.Lock()
	i.last, i.set, i.defaults = kept.Last, values(kept.Knobs).clone(), values(kept.Defaults).clone()
	for _, text := range kept.Faults {
		var message faultv1.ActiveFault
		err := protojson.Unmarshal(text, &message)
		var f Fault
		if err == nil {
			f, err = FromProto(message.GetFault())
		}
		if err != nil {
			i.mu.Unlock()
			return fmt.Errorf("take over the faults in force: %w", err)
		}
		if f.Pause != nil {
			continue
		}
		a := &active{id: message.GetId(), fault: f, began: message.GetBeganAt().AsTime()}
		if n, err := strconv.Atoi(a.id); err == nil {
			i.last = max(i.last, n)
		}
		if f.Store != nil {
			i.down[f.Store.Name] = true
		}
		i.active = append(i.active, a)
		if message.GetEndsAt() == nil {
			continue
		}
		a.ends = message.GetEndsAt().AsTime()
		left := time.Until(a.ends)
		if left <= 0 {
			over = append(over, a)
		}
		// Of one that is over this is another try, should the first one fail.
		a.timer = time.AfterFunc(max(left, mendAgain), func() { i.expire(a) })
	}
	i.mu.Unlock()
	for _, a := range over {
		if err := i.end(ctx, a); err != nil {
			return fmt.Errorf("end fault %s, %v, whose time is over: %w", a.id, a.fault, err)
		}
		a.timer.Stop()
	}
	return nil
}

// Leave ends the injector and leaves the mesh as it is, with every fault that is in
// force. Nothing begins or ends any more.
func (i *Injector) Leave() {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.closed = true
	i.stop()
	for _, a := range i.active {
		if a.timer != nil {
			a.timer.Stop()
		}
	}
}
