package main

import (
	"bytes"
	"context"
	"strings"
	"testing"

	enginev1 "spillway.dev/proto/gen/spillway/engine/v1"
)

// GetInfo is that of a mesh without a metrics store.
func (s *stub) GetInfo(context.Context, *enginev1.GetInfoRequest) (*enginev1.GetInfoResponse, error) {
	return &enginev1.GetInfoResponse{}, nil
}

func TestExplainNeedsAMetricsStore(t *testing.T) {
	dir := (&stub{}).start(t)
	var out, errOut bytes.Buffer
	if code := run(t.Context(), []string{"explain", "order", "--dir", dir}, nil, &out, &errOut); code != exitFailed || !strings.Contains(errOut.String(), "observability/lite") {
		t.Errorf("got exit %d, %q and %q, want what is missing and how it comes", code, &out, &errOut)
	}
}

func TestAutoscalerOf(t *testing.T) {
	objects := []string{`{"metadata": {"name": "a"}, "spec": {"scaleTargetRef": {"name": "order"}}}`}
	if hpa, err := autoscalerOf("order", objects); err != nil || hpa == nil || hpa.Name != "a" {
		t.Errorf("of order: %v, %v", hpa, err)
	}
	if hpa, err := autoscalerOf("bank", objects); err != nil || hpa != nil {
		t.Errorf("of the bank, which nothing scales: %v, %v", hpa, err)
	}
	if _, err := autoscalerOf("order", []string{"{"}); err == nil {
		t.Error("what is no JSON is read")
	}
}
