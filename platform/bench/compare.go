package bench

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"time"
)

// child is a process that runs Answer.
type child struct {
	cmd *exec.Cmd
	in  io.WriteCloser
	out *bufio.Reader
}

// spawn starts this executable again as the child for a side.
func spawn(ctx context.Context, side Side, environ []string) (*child, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	cmd := exec.CommandContext(ctx, self, "-child", string(side))
	cmd.Env = environ // its log goes to /dev/null: what a log costs is part of the bill, what a terminal costs is not
	in, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	return &child{cmd: cmd, in: in, out: bufio.NewReader(out)}, nil
}

// run has the child make n calls.
func (c *child) run(n int) (Cost, error) {
	if _, err := fmt.Fprintln(c.in, n); err != nil {
		return Cost{}, err
	}
	line, err := c.out.ReadBytes('\n')
	if err != nil {
		return Cost{}, fmt.Errorf("child %v: %w", c.cmd.Args[1:], err)
	}
	var cost Cost
	return cost, json.Unmarshal(line, &cost)
}

// end has the child finish and waits for it.
func (c *child) end() error { return errors.Join(c.in.Close(), c.cmd.Wait()) }

// Comparison is the CPU per call of both sides, in microseconds, and their ratio round by round.
type Comparison struct {
	Bare, Full, Ratio Spread
}

// enough is how many rounds make a median worth telling, however slow the machine is.
const enough = 5

// Compare has two child processes, one a side, make the same number of calls in turn (A B A B ...) for the given number of
// rounds, after one that is not counted. On a busy machine it makes do with fewer once the budget is spent. environ is the children's environment; Full's telemetry exports to what it names.
// The program that calls Compare must call Answer when it is started with "-child SIDE".
func Compare(ctx context.Context, rounds, callsPerRound int, budget time.Duration, environ []string) (_ Comparison, err error) {
	sides := []Side{Bare, Full}
	children := map[Side]*child{}
	defer func() {
		for _, c := range children {
			err = errors.Join(err, c.end())
		}
	}()
	for _, side := range sides {
		c, err := spawn(ctx, side, environ)
		if err != nil {
			return Comparison{}, fmt.Errorf("start the %s side: %w", side, err)
		}
		children[side] = c
	}
	spent, err := inTurn(sides, rounds, budget, func(side Side) (Cost, error) { return children[side].run(callsPerRound) })
	if err != nil {
		return Comparison{}, err
	}
	return Comparison{
		Bare:  Describe(spent[Bare]),
		Full:  Describe(spent[Full]),
		Ratio: Describe(Ratios(spent[Full], spent[Bare])),
	}, nil
}

// inTurn has the sides make a round in turn, rounds times after one that is not counted, or fewer once the budget is
// spent. It gives each side's CPU per call, by round.
func inTurn(sides []Side, rounds int, budget time.Duration, run func(Side) (Cost, error)) (map[Side][]float64, error) {
	spent := map[Side][]float64{}
	begin := time.Now()
	for round := range rounds + 1 {
		if round > enough && time.Since(begin) > budget {
			break
		}
		for _, side := range sides {
			cost, err := run(side)
			if err != nil {
				return nil, fmt.Errorf("the %s side: %w", side, err)
			}
			if round > 0 {
				spent[side] = append(spent[side], cost.PerCall())
			}
		}
	}
	return spent, nil
}
