package fault

import (
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"

	faultv1 "spillway.dev/proto/gen/spillway/fault/v1"
)

func TestKnobs(t *testing.T) {
	s := newStage()
	i := newInjector(t, s)
	turn := func(service, name, value, before string) {
		t.Helper()
		previous, err := i.SetKnob(t.Context(), service, name, value)
		if err != nil || previous != before {
			t.Errorf("%s %s=%s: before it was %q, %v, want %q", service, name, value, previous, err, before)
		}
	}
	turn("bank", quotaKnob, "20", "")
	turn("bank", quotaKnob, "30", "20")
	turn("order", slowdownKnob, "2", "")
	is(t, s, "bank.bank.quota_per_second=30, order.capacity.slowdown=2")
	// A fault on the same knob comes on top, and what was set comes back.
	quota := begin(t, i, Fault{BankQuota: &BankQuota{PerSecond: 5}}, 0)
	slower := begin(t, i, slow("order", 3), 0)
	is(t, s, "bank.bank.quota_per_second=5, order.capacity.slowdown=6")
	turn("bank", quotaKnob, "40", "30")
	is(t, s, "bank.bank.quota_per_second=5, order.capacity.slowdown=6")
	for _, f := range []*faultv1.ActiveFault{quota, slower} {
		if _, err := i.Clear(t.Context(), f.GetId()); err != nil {
			t.Fatal(err)
		}
	}
	is(t, s, "bank.bank.quota_per_second=40, order.capacity.slowdown=2")
	turn("bank", quotaKnob, "", "40")
	is(t, s, "order.capacity.slowdown=2")
	if err := i.ResetKnobs(t.Context()); err != nil {
		t.Error(err)
	}
	is(t, s, "")
	for want, c := range map[string][3]string{
		`value "0" is not allowed`:     {"bank", quotaKnob, "0"},
		`service order has no knob`:    {"order", quotaKnob, "1"},
		`no service "people" runs`:     {"people", quotaKnob, "1"},
		`it has: capacity.slowdown, s`: {"order", "speed", ""},
	} {
		if _, err := i.SetKnob(t.Context(), c[0], c[1], c[2]); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: got %v, want %s", c, err, want)
		}
	}
	is(t, s, "")
}

func TestServer(t *testing.T) {
	s := newStage()
	server := newInjector(t, s).Server()
	ctx := t.Context()
	for _, bad := range []*faultv1.InjectFaultRequest{
		{}, {Fault: latency.Proto(), Duration: durationpb.New(0)}, {Fault: latency.Proto(), Duration: &durationpb.Duration{Seconds: 1, Nanos: -1}},
	} {
		if _, err := server.InjectFault(ctx, bad); status.Code(err) != codes.InvalidArgument {
			t.Errorf("%v: got %v, want InvalidArgument", bad, err)
		}
	}
	if _, err := server.InjectFault(ctx, &faultv1.InjectFaultRequest{Fault: latency.Proto(), Duration: durationpb.New(time.Hour)}); err != nil {
		t.Error(err)
	}
	if list, err := server.ListFaults(ctx, nil); err != nil || words(list.GetFaults()) != "1 latency 1s on gateway → order" {
		t.Errorf("listed %v, %v", list, err)
	}
	request := &faultv1.SetKnobRequest{Service: "bank", Name: quotaKnob, Value: "20"}
	for _, before := range []string{"", "20"} {
		if set, err := server.SetKnob(ctx, request); err != nil || set.GetPrevious() != before {
			t.Errorf("before it was %v, %v, want %q", set, err, before)
		}
	}
	is(t, s, "order:1, bank.bank.quota_per_second=20")
	if _, err := server.ResetKnobs(ctx, nil); err != nil {
		t.Error(err)
	}
	if cleared, err := server.ClearFault(ctx, nil); err != nil || len(cleared.GetCleared()) != 1 {
		t.Errorf("cleared %v, %v", cleared, err)
	}
	is(t, s, "")
	if _, err := server.ClearFault(ctx, &faultv1.ClearFaultRequest{Id: "9"}); status.Code(err) != codes.NotFound {
		t.Errorf("got %v, want NotFound", err)
	}
}
