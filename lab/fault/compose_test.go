package fault

import (
	"reflect"
	"testing"
	"time"

	"google.golang.org/grpc/codes"

	"spillway.dev/platform/mesh"
)

func slow(service string, factor float64) Fault {
	return Fault{SlowDown: &SlowDown{Service: service, Factor: factor}}
}

func TestCompose(t *testing.T) {
	type services = map[string]map[string]string
	latency := Fault{Latency: &Edge{Caller: "gateway", Callee: "catalog", Delay: time.Second}}
	failing := Fault{Errors: &Edge{Callee: "catalog", Share: 0.5}}
	for name, c := range map[string]struct {
		faults        []Fault
		set, defaults services
		want          demand
	}{
		"nothing": {},
		"what was set by hand stays": {
			set:  services{"order": {"a": "1"}},
			want: demand{knobs: services{"order": {"a": "1"}}},
		},
		"slow-downs multiply, on what was set": {
			faults: []Fault{slow("order", 3), slow("bank", 2), slow("order", 2)},
			set:    services{"order": {slowdownKnob: "0.5"}},
			want:   demand{knobs: services{"order": {slowdownKnob: "3"}, "bank": {slowdownKnob: "2"}}},
		},
		"else on the default": {
			faults:   []Fault{slow("order", 3)},
			defaults: services{"order": {slowdownKnob: "1.5"}},
			want:     demand{knobs: services{"order": {slowdownKnob: "4.5"}}},
		},
		"within bounds": {
			faults: []Fault{slow("order", 1000), slow("order", 1000), slow("bank", 0.1), slow("bank", 0.1)},
			want:   demand{knobs: services{"order": {slowdownKnob: "1000"}, "bank": {slowdownKnob: "0.1"}}},
		},
		"slow starts add up": {
			faults: []Fault{
				{SlowStart: &SlowStart{Service: "order", Delay: time.Second}}, {SlowStart: &SlowStart{Service: "order", Delay: 2 * time.Second}},
			},
			defaults: services{"order": {startKnob: "500ms"}},
			want:     demand{knobs: services{"order": {startKnob: "3.5s"}}},
		},
		"the last quota counts": {
			faults: []Fault{{BankQuota: &BankQuota{PerSecond: 20}}, {BankQuota: &BankQuota{PerSecond: 30}}},
			set:    services{"bank": {quotaKnob: "90", "other": "1"}},
			want:   demand{knobs: services{"bank": {quotaKnob: "30", "other": "1"}}},
		},
		"latency comes first, whenever it began": {
			faults: []Fault{failing, latency},
			want: demand{mesh: map[string][]mesh.Fault{"catalog": {
				{Caller: "gateway", Delay: time.Second, DelayShare: 1}, {AbortCode: codes.Unavailable, AbortShare: 0.5},
			}}},
		},
		"the longest delay of endpoints": {
			faults: []Fault{{Endpoints: &Endpoints{Delay: 3 * time.Second}}, {Endpoints: &Endpoints{Delay: time.Second}}},
			want:   demand{late: 3 * time.Second},
		},
		"dropped is later than late": {
			faults: []Fault{{Endpoints: &Endpoints{Delay: 3 * time.Second}}, {Endpoints: &Endpoints{}}},
			want:   demand{late: 3 * time.Second, drop: true},
		},
		"a store that two stopped is down": {
			faults: []Fault{{Store: &Store{Redis}}, {Store: &Store{Redis}}},
			want:   demand{down: map[string]bool{Redis: true}},
		},
		"kills and pauses are done, not composed": {
			faults: []Fault{{Kill: &Replicas{Service: "order"}}, {Pause: &Replicas{Service: "order"}}},
		},
	} {
		got := compose(c.faults, c.set, c.defaults)
		if c.want.mesh == nil {
			c.want.mesh = map[string][]mesh.Fault{}
		}
		if c.want.knobs == nil {
			c.want.knobs = values{}
		}
		if c.want.down == nil {
			c.want.down = map[string]bool{}
		}
		if !reflect.DeepEqual(got, c.want) {
			t.Errorf("%s: got %+v, want %+v", name, got, c.want)
		}
	}
}
