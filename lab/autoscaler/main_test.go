package autoscaler_test

import (
	"log/slog"
	"testing"

	"go.uber.org/goleak"
	utilruntime "k8s.io/apimachinery/pkg/util/runtime"

	"spillway.dev/lab/autoscaler"
)

func TestMain(m *testing.M) {
	autoscaler.RouteKlog(slog.New(slog.DiscardHandler))
	// Kubernetes holds whoever reports errors too fast, by the time since the last
	// one of the process: in a bubble, where it is the year 2000, that is decades.
	utilruntime.ErrorHandlers = utilruntime.ErrorHandlers[:1]
	goleak.VerifyTestMain(m)
}
