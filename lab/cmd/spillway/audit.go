package main

import (
	"errors"
	"time"

	"github.com/spf13/cobra"

	"spillway.dev/lab/audit"
	enginev1 "spillway.dev/proto/gen/spillway/engine/v1"
)

// auditPause is the time between two readings of the stores: longer than a
// purchase is between two of them.
const auditPause = time.Second

func (a *app) auditCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "audit",
		Short: "Check from the stores that every invariant holds",
		Long: `Read Redis, JetStream and the bank's books and check that no seat was sold
twice, that every captured payment has exactly one order and one ticket or one
refund, that no order is confirmed without a captured payment, that no seat is
held for ever and that no order stays unfinished. It prints what it counted and
every violation, and fails when there is one.

Orders that are under way may look wrong for a moment: the audit waits for them,
up to --settle, and reports only what stands. It may run under load.`,
		Example: "  spillway audit\n  spillway audit --settle 60s --json",
		Args:    arguments(0),
	}
	settle := cmd.Flags().Duration("settle", 30*time.Second, "how long to wait for work under way to end")
	grace := cmd.Flags().Duration("grace", 30*time.Second, "how long an order may be unfinished, a ticket missing or a hold overdue")
	asJSON := addJSON(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if *settle < 0 || *grace < 0 {
			return usagef("--settle and --grace cannot be negative")
		}
		return a.withEngine(func(engine enginev1.EngineServiceClient) error {
			stores, err := audit.Open(cmd.Context(), engine)
			if err != nil {
				return err
			}
			report, err := audit.Settle(cmd.Context(), stores.Read, *settle, *grace, auditPause)
			if err := errors.Join(err, stores.Close()); err != nil {
				return err
			}
			if *asJSON {
				err = a.printJSON(report)
			} else {
				err = report.WriteText(a.out)
			}
			if err == nil && len(report.Violations) > 0 {
				return errReported
			}
			return err
		})
	}
	return cmd
}
