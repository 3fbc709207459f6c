package cluster

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"spillway.dev/lab/engine/kube"
	"spillway.dev/lab/experiment"
	"spillway.dev/lab/load"
)

const (
	// generator is the name of the load generator's pod.
	generator = "generator"
	// generatorPatience bounds how long its node may take to start it.
	generatorPatience = 2 * time.Minute
	// removePatience bounds how long it takes to take it away.
	removePatience = 30 * time.Second

	planFile, ratesFile = "plan.json", "rates.csv"
)

// task is the load generator of a plan: it goes round the gateway's replicas as the
// control plane tells of them, so that new ones get their share at once. Behind the
// Service's one address each connection would stay with its replica.
func task(plan load.Plan) (kube.Task, error) {
	t := kube.Task{
		Name: generator, Args: []string{"offer", "--plan", kube.TaskFiles + "/" + planFile, "--target", "xds:///gateway"},
		Files: make(map[string]string),
	}
	if plan.Shape.Kind == "csv" {
		rates, err := os.ReadFile(plan.Shape.File)
		if err != nil {
			return t, fmt.Errorf("give the generator its rates: %w", err)
		}
		t.Files[ratesFile], plan.Shape.File = string(rates), kube.TaskFiles+"/"+ratesFile
	}
	text, err := json.Marshal(plan)
	if err != nil {
		return t, fmt.Errorf("encode the plan: %w", err)
	}
	t.Files[planFile] = string(text)
	return t, nil
}

// tasks is where a generator runs.
type tasks interface {
	StartTask(ctx context.Context, t kube.Task) error
	TaskOutput(ctx context.Context, name string) (io.ReadCloser, error)
	TaskEnded(ctx context.Context, name string) (ended bool, how string, err error)
	StopTask(ctx context.Context, name string) error
	RemoveTask(ctx context.Context, name string) error
}

// Offer implements experiment.Mesh.
func (m *mesh) Offer(ctx, hard context.Context, plan load.Plan, begun func(time.Time), tick func(load.Tick)) (*load.Record, error) {
	return offer(ctx, hard, m.session.Cluster, plan, begun, tick)
}

// offer runs the generator in a pod and reads what it says.
func offer(ctx, hard context.Context, where tasks, plan load.Plan, begun func(time.Time), tick func(load.Tick)) (record *load.Record, err error) {
	t, err := task(plan)
	if err != nil {
		return nil, err
	}
	// One that an earlier run left.
	if err := where.RemoveTask(hard, generator); err != nil {
		return nil, err
	}
	defer func() {
		removing, cancel := context.WithTimeout(context.WithoutCancel(hard), removePatience)
		defer cancel()
		if removeErr := where.RemoveTask(removing, generator); record == nil {
			err = errors.Join(err, removeErr)
		}
	}()
	if err := where.StartTask(hard, t); err != nil {
		return nil, err
	}
	stopped := make(chan error, 1)
	defer context.AfterFunc(ctx, func() { stopped <- where.StopTask(hard, generator) })()
	h := &hearing{begun: begun, tick: tick}
	deadline := time.Now().Add(generatorPatience)
	again := time.NewTicker(lookAgain)
	defer again.Stop()
	for {
		// Whatever it said is there to be read once it is known to have ended.
		ended, how, err := where.TaskEnded(hard, generator)
		if err != nil && hard.Err() == nil {
			return nil, err
		}
		record, said, err := h.listen(hard, where)
		switch {
		case record != nil:
			return record, nil
		case hard.Err() != nil:
			return nil, hard.Err()
		case ended:
			return nil, fmt.Errorf("the load generator failed (%s): %w: %s", how, err, said)
		case !h.began && time.Now().After(deadline):
			return nil, fmt.Errorf("the load generator's pod has not begun within %s (%s): %w", generatorPatience, how, err)
		}
		select {
		case err := <-stopped:
			if err != nil { // it would go on to the end of its plan
				return nil, err
			}
		case <-again.C:
		case <-hard.Done():
			return nil, hard.Err()
		}
	}
}

// hearing is what was heard of a generator. Its output may have to be read again
// from the beginning; nothing is passed on twice.
type hearing struct {
	begun func(time.Time)
	tick  func(load.Tick)
	began bool
	last  time.Duration
}

// listen reads the output until the record comes, or it breaks off; said is what the
// generator complained of.
func (h *hearing) listen(ctx context.Context, where tasks) (record *load.Record, said string, err error) {
	out, err := where.TaskOutput(ctx, generator)
	if err != nil {
		return nil, "", err
	}
	defer out.Close()
	messages := &messages{in: bufio.NewReader(out)}
	record, err = experiment.Follow(messages, func(at time.Time) {
		if !h.began {
			h.began = true
			h.begun(at)
		}
	}, func(t load.Tick) {
		if t.Elapsed > h.last {
			h.last = t.Elapsed
			h.tick(t)
		}
	})
	return record, string(bytes.TrimSpace(messages.other)), err
}

// mostSaid bounds what is kept of other lines.
const mostSaid = 2000

// messages are the lines of an output that are JSON objects. In a pod's output those
// of standard error are among them, which are kept apart.
type messages struct {
	in    *bufio.Reader
	line  []byte // what is left of the one that is read
	other []byte // the end of them
}

// Read implements io.Reader.
func (m *messages) Read(p []byte) (int, error) {
	for len(m.line) == 0 {
		line, err := m.in.ReadBytes('\n')
		if bytes.HasPrefix(line, []byte("{")) {
			m.line = line
			break
		}
		m.other = append(m.other, line...)
		m.other = m.other[max(0, len(m.other)-mostSaid):]
		if err != nil {
			return 0, err
		}
	}
	n := copy(p, m.line)
	m.line = m.line[n:]
	return n, nil
}
