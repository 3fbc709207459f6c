package autoscaler

import (
	"fmt"
	"log/slog"
	"time"

	"github.com/go-logr/logr"
	"k8s.io/klog/v2"
)

// tap is the logger of the controller. Events pass it before Kubernetes' event
// correlator merges them and drops all but 25 an object, and a rescale is told
// with the replicas before it, which its event lacks.
type tap struct {
	log     *slog.Logger
	event   func(Event)
	rescale func(Rescale)
}

// eventVerbosity is the level at which the controller logs its events.
const eventVerbosity = 3

func (t *tap) Init(logr.RuntimeInfo) {}

func (t *tap) Enabled(level int) bool { return level <= eventVerbosity }

func (t *tap) Info(_ int, message string, pairs ...any) {
	switch message {
	case "Event occurred":
		object, _ := field(pairs, "object").(klog.ObjectRef)
		e := Event{At: time.Now(), Name: object.Name}
		e.Type, _ = field(pairs, "type").(string)
		e.Reason, _ = field(pairs, "reason").(string)
		e.Kind, _ = field(pairs, "kind").(string)
		e.Message, _ = field(pairs, "message").(string)
		t.event(e)
	case "Successfully rescaled":
		hpa, _ := field(pairs, "HPA").(klog.ObjectRef)
		from, _ := field(pairs, "currentReplicas").(int32)
		to, _ := field(pairs, "desiredReplicas").(int32)
		reason, _ := field(pairs, "reason").(string)
		t.rescale(Rescale{At: time.Now(), Autoscaler: hpa.Name, From: int(from), To: int(to), Reason: reason})
	}
	t.log.Debug(message, pairs...)
}

func (t *tap) Error(err error, message string, pairs ...any) {
	t.log.Debug(message, append(pairs, "err", err)...)
}

func (t *tap) WithValues(...any) logr.LogSink { return t }

func (t *tap) WithName(string) logr.LogSink { return t }

// field is the value of a key in a logger's list of keys and values.
func field(pairs []any, key string) any {
	for i := 0; i+1 < len(pairs); i += 2 {
		if fmt.Sprint(pairs[i]) == key {
			return pairs[i+1]
		}
	}
	return nil
}

// RouteKlog sends what Kubernetes' libraries write to standard error to log, at
// debug level: whatever a user has to know is an event too. It is for the whole
// process and must come before anything of Kubernetes runs.
func RouteKlog(log *slog.Logger) {
	klog.SetLogger(logr.New(&tap{log: log, event: func(Event) {}, rescale: func(Rescale) {}}))
}
