// Command rules writes the rule file of coordinated scaling from the declared
// call graph. It runs at the root of the repository: make generate.
package main

import (
	"fmt"
	"os"

	"spillway.dev/lab/coordination"
)

func main() {
	if err := write(coordination.GraphFile, coordination.RulesFile); err != nil {
		fmt.Fprintln(os.Stderr, "rules:", err)
		os.Exit(1)
	}
}

func write(from, to string) error {
	text, err := os.ReadFile(from)
	if err != nil {
		return fmt.Errorf("read the call graph (run this at the root of the repository): %w", err)
	}
	g, err := coordination.Parse(from, text)
	if err != nil {
		return err
	}
	return os.WriteFile(to, []byte(g.Rules()), 0o644)
}
