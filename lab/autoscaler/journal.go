package autoscaler

import (
	"slices"
	"sync"
	"time"
)

// Event is something that happened to an object, in Kubernetes' words.
type Event struct {
	At time.Time
	// Type is "Normal" or "Warning".
	Type string
	// Reason is one word, such as "SuccessfulRescale".
	Reason string
	// Kind and Name are those of the object.
	Kind, Name string
	Message    string
}

// Rescale is one change of replicas by the controller.
type Rescale struct {
	At time.Time
	// Autoscaler is the HPA, Target the Deployment.
	Autoscaler, Target string
	From, To           int
	// Reason is the controller's, such as "All metrics below target".
	Reason string
}

// Journal keeps the last entries in order. All methods may be called
// concurrently.
type Journal[T any] struct {
	mu    sync.Mutex
	kept  []T
	first uint64 // the number of kept[0]
	more  chan struct{}
}

// journalLength bounds a journal: an hour of seven HPAs that lack their metrics
// at tenfold time-lapse.
const journalLength = 32768

func newJournal[T any]() *Journal[T] {
	return &Journal[T]{more: make(chan struct{})}
}

// Add puts an entry at the end; the oldest one goes when there are too many.
func (j *Journal[T]) Add(entry T) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if len(j.kept) == journalLength {
		j.kept = slices.Delete(j.kept, 0, journalLength/8)
		j.first += journalLength / 8
	}
	j.kept = append(j.kept, entry)
	close(j.more)
	j.more = make(chan struct{})
}

// After returns the entries from number n on, the number to ask for next, and a
// channel that is closed when there are more. After(0) is everything kept.
func (j *Journal[T]) After(n uint64) (entries []T, next uint64, more <-chan struct{}) {
	j.mu.Lock()
	defer j.mu.Unlock()
	end := j.first + uint64(len(j.kept))
	n = min(max(n, j.first), end)
	return slices.Clone(j.kept[n-j.first:]), end, j.more
}
