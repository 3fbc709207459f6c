package experiment

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"syscall"
	"time"

	"spillway.dev/lab/load"
)

// Message is a line that the generator's process writes: exactly one field is
// set.
type Message struct {
	// Begin is when the load began.
	Begin *time.Time `json:"begin,omitempty"`
	// Tick comes once a second.
	Tick *load.Tick `json:"tick,omitempty"`
	// Record comes last.
	Record *load.Record `json:"record,omitempty"`
}

// Offer is the generator's process: it reads a plan as JSON from in, offers that
// load to the gateway, and writes Messages to out, one a line. When ctx ends it
// offers no more and still tells what came of it.
func Offer(ctx context.Context, in io.Reader, out io.Writer, gateway load.Gateway) error {
	var plan load.Plan
	if err := json.NewDecoder(in).Decode(&plan); err != nil {
		return fmt.Errorf("read the plan: %w", err)
	}
	if err := plan.Resolve("."); err != nil {
		return err
	}
	load.MakeRoom()
	lines := json.NewEncoder(out)
	begin := time.Now()
	if err := lines.Encode(Message{Begin: &begin}); err != nil {
		return err
	}
	var lost error
	record, err := load.Run(ctx, plan, gateway, func(t load.Tick) {
		lost = errors.Join(lost, lines.Encode(Message{Tick: &t}))
	})
	if err != nil {
		return err
	}
	return errors.Join(lost, lines.Encode(Message{Record: record}))
}

// generate runs the generator's command to its end and returns what it recorded.
// A process of its own has a scheduler and a heap of its own: what the metrics
// store and the autoscaler do does not hold up an arrival. When ctx ends it is
// told to stop, and what it has is still taken; when hard ends it is killed.
func generate(ctx, hard context.Context, command []string, plan load.Plan, begun func(time.Time), tick func(load.Tick)) (*load.Record, error) {
	text, err := json.Marshal(plan)
	if err != nil {
		return nil, fmt.Errorf("encode the plan: %w", err)
	}
	cmd := exec.CommandContext(ctx, command[0], command[1:]...)
	// A group of its own: Ctrl-C is for this program, which then stops it.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = 2 * time.Minute // journeys under way end by their deadlines
	cmd.Stdin = bytes.NewReader(text)
	var complaint bytes.Buffer
	cmd.Stderr = &complaint
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, fmt.Errorf("start the load: %w", err)
	}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("start the load: %w", err)
	}
	defer context.AfterFunc(hard, func() { _ = cmd.Process.Kill() })()
	record, readErr := Follow(out, begun, tick)
	err = cmd.Wait()
	if record != nil {
		return record, nil // complete, however the process ended
	}
	return nil, fmt.Errorf("the load generator failed: %w: %s", errors.Join(err, readErr), bytes.TrimSpace(complaint.Bytes()))
}

// Follow reads what Offer writes, and returns the record that comes last.
func Follow(out io.Reader, begun func(time.Time), tick func(load.Tick)) (*load.Record, error) {
	lines := json.NewDecoder(bufio.NewReader(out))
	for {
		var m Message
		if err := lines.Decode(&m); err != nil {
			return nil, err
		}
		switch {
		case m.Begin != nil:
			begun(*m.Begin)
		case m.Tick != nil:
			tick(*m.Tick)
		case m.Record != nil:
			return m.Record, nil
		}
	}
}
