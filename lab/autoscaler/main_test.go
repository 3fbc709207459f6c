package autoscaler_test

import (
	"log/slog"
	"testing"

	"go.uber.org/goleak"

	"spillway.dev/lab/autoscaler"
)

func TestMain(m *testing.M) {
	autoscaler.RouteKlog(slog.New(slog.DiscardHandler))
	goleak.VerifyTestMain(m)
}
