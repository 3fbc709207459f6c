package fault

import (
	"bytes"
	"math"
	"reflect"
	"strings"
	"testing"
	"time"

	"go.yaml.in/yaml/v3"
	"google.golang.org/protobuf/types/known/durationpb"

	faultv1 "spillway.dev/proto/gen/spillway/fault/v1"
)

// every is a fault of each kind: as a scenario file writes it, and in words.
var every = []struct {
	yaml, words string
	fault       Fault
}{
	{"latency: {caller: gateway, callee: catalog, delay: 200ms}", "latency 200ms on gateway → catalog",
		Fault{Latency: &Edge{Caller: "gateway", Callee: "catalog", Delay: 200 * time.Millisecond}}},
	{"latency: {callee: catalog, delay: 1s, share: 0.125}", "latency 1s on 12.5 % of every caller → catalog",
		Fault{Latency: &Edge{Callee: "catalog", Delay: time.Second, Share: 0.125}}},
	{"errors: {caller: order, callee: payment, share: 0.3}", "errors on 30 % of order → payment",
		Fault{Errors: &Edge{Caller: "order", Callee: "payment", Share: 0.3}}},
	{"errors: {callee: payment, share: 1}", "errors on every caller → payment",
		Fault{Errors: &Edge{Callee: "payment", Share: 1}}},
	{"slow-down: {service: inventory, factor: 2.5}", "inventory slowed down 2.5×",
		Fault{SlowDown: &SlowDown{Service: "inventory", Factor: 2.5}}},
	{"kill: {service: order, replicas: 2}", "kill 2 replicas of order", Fault{Kill: &Replicas{Service: "order", Replicas: 2}}},
	{"pause: {service: order}", "pause 1 replica of order", Fault{Pause: &Replicas{Service: "order"}}},
	{"store: {name: redis}", "redis stopped", Fault{Store: &Store{Name: Redis}}},
	{"store: {name: nats}", "nats stopped", Fault{Store: &Store{Name: NATS}}},
	{"endpoints: {delay: 3s}", "endpoint updates 3s late", Fault{Endpoints: &Endpoints{Delay: 3 * time.Second}}},
	{"endpoints: {}", "endpoint updates dropped", Fault{Endpoints: &Endpoints{}}},
	{"slow-start: {service: order, delay: 20s}", "order starts 20s slower", Fault{SlowStart: &SlowStart{Service: "order", Delay: 20 * time.Second}}},
	{"bank-quota: {per-second: 20}", "bank quota 20/s", Fault{BankQuota: &BankQuota{PerSecond: 20}}},
}

func TestEveryKind(t *testing.T) {
	kinds := map[string]bool{}
	for _, c := range every {
		decoder := yaml.NewDecoder(strings.NewReader(c.yaml))
		decoder.KnownFields(true)
		var read Fault
		if err := decoder.Decode(&read); err != nil {
			t.Errorf("%s: %v", c.yaml, err)
			continue
		}
		if !reflect.DeepEqual(read, c.fault) {
			t.Errorf("%s: read %+v", c.yaml, read)
		}
		if err := read.Validate(); err != nil {
			t.Errorf("%s: %v", c.yaml, err)
		}
		if got := read.String(); got != c.words {
			t.Errorf("%s: in words %q, want %q", c.yaml, got, c.words)
		}
		back, err := FromProto(read.Proto())
		if err != nil || !reflect.DeepEqual(back, read) {
			t.Errorf("%s: over the wire it becomes %+v, %v", c.yaml, back, err)
		}
		written, err := yaml.Marshal(read)
		if err != nil {
			t.Fatal(err)
		}
		var again Fault
		if err := yaml.NewDecoder(bytes.NewReader(written)).Decode(&again); err != nil || !reflect.DeepEqual(again, read) {
			t.Errorf("%s: written it is %s, %v", c.yaml, written, err)
		}
		kinds[read.kinds()[0]] = true
	}
	if want := reflect.TypeFor[Fault]().NumField(); len(kinds) != want {
		t.Errorf("%d kinds are tested, want %d", len(kinds), want)
	}
	if got := (Fault{}).String(); got != "no fault" {
		t.Errorf("no fault in words is %q", got)
	}
}

func TestValidate(t *testing.T) {
	for want, f := range map[string]Fault{
		"a fault without a kind, give one of latency, errors": {},
		"a fault of 2 kinds (kill, store)":                    {Kill: &Replicas{Service: "a"}, Store: &Store{Name: Redis}},
		"fault latency: no callee is named":                   {Latency: &Edge{Delay: 1}},
		"fault latency: delay 0s is not allowed":              {Latency: &Edge{Callee: "a"}},
		"fault latency: share 1.5 is not allowed":             {Latency: &Edge{Callee: "a", Delay: 1, Share: 1.5}},
		"fault errors: share NaN is not allowed":              {Errors: &Edge{Callee: "a", Share: math.NaN()}},
		"fault errors: share -1 is not allowed":               {Errors: &Edge{Callee: "a", Share: -1}},
		"fault errors: delay 1s does nothing here":            {Errors: &Edge{Callee: "a", Delay: time.Second}},
		"fault slow-down: factor 0 is not allowed":            {SlowDown: &SlowDown{Service: "a"}},
		"fault slow-down: factor NaN is not allowed":          {SlowDown: &SlowDown{Service: "a", Factor: math.NaN()}},
		"fault slow-down: factor 1001 is not":                 {SlowDown: &SlowDown{Service: "a", Factor: 1001}},
		"fault slow-down: no service is named":                {SlowDown: &SlowDown{Factor: 2}},
		"fault kill: replicas -1 is not allowed":              {Kill: &Replicas{Service: "a", Replicas: -1}},
		"fault pause: replicas 101 is not allowed":            {Pause: &Replicas{Service: "a", Replicas: 101}},
		"fault pause: no service is named":                    {Pause: &Replicas{}},
		`fault store: store "" is not known, give redis or`:   {Store: &Store{}},
		"fault endpoints: delay -1ns is not allowed":          {Endpoints: &Endpoints{Delay: -1}},
		"fault slow-start: delay 0s is not allowed":           {SlowStart: &SlowStart{Service: "a"}},
		"fault slow-start: no service is named":               {SlowStart: &SlowStart{Delay: 1}},
		"fault bank-quota: per-second 0 is not allowed":       {BankQuota: &BankQuota{}},
	} {
		if err := f.Validate(); err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("got %v, want %s", err, want)
		}
	}
}

func TestFromProtoRefuses(t *testing.T) {
	for want, message := range map[string]*faultv1.Fault{
		"a fault without a kind": {},
		"a fault's delay": {Kind: &faultv1.Fault_Latency{Latency: &faultv1.EdgeFault{
			Callee: "a", Delay: &durationpb.Duration{Seconds: 1, Nanos: -1},
		}}},
		`store "" is not known`:       {Kind: &faultv1.Fault_Store{Store: &faultv1.StoreFault{Store: 7}}},
		"delay 0s is not allowed":     {Kind: &faultv1.Fault_SlowStart{SlowStart: &faultv1.SlowStart{Service: "a"}}},
		"per-second 0 is not allowed": {Kind: &faultv1.Fault_BankQuota{}},
	} {
		if f, err := FromProto(message); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, %v, want %s", f, err, want)
		}
	}
	if _, err := FromProto(nil); err == nil {
		t.Error("no fault at all was accepted")
	}
}
