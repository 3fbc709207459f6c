package audit

import (
	"bufio"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
)

// WriteText prints what was counted and what is wrong.
func (r *Report) WriteText(w io.Writer) error {
	out := bufio.NewWriter(w)
	c := r.Counts
	line := func(what string, n int, detail string) {
		fmt.Fprintln(out, strings.TrimRight(fmt.Sprintf("%-10s%8d   %s", what, n, detail), " "))
	}
	line("orders", total(c.Orders), states(c.Orders))
	line("payments", total(c.Payments), states(c.Payments))
	line("bank", total(c.Transactions), states(c.Transactions))
	line("tickets", c.Tickets, "")
	line("refunds", c.Refunds, "")
	line("holds", total(c.Holds), states(c.Holds))
	line("seats", c.SeatsSold, fmt.Sprintf("sold, in %d shows", c.Shows))
	fmt.Fprintln(out)
	if r.Unsettled > 0 {
		fmt.Fprintf(out, "%d orders were still under way after %.0f s and are judged only by their age.\n", r.Unsettled, r.WaitedS)
	}
	switch {
	case len(r.Violations) == 0 && r.Unsettled > 0:
		fmt.Fprintln(out, "no invariant is broken so far; audit again when all orders are final")
		return out.Flush()
	case len(r.Violations) == 0:
		fmt.Fprintln(out, "every invariant holds")
		return out.Flush()
	}
	fmt.Fprintf(out, "VIOLATIONS: %d\n", len(r.Violations))
	for _, v := range r.Violations {
		fmt.Fprintf(out, "%-22s%s: %s\n", v.Rule, v.ID, v.Text)
	}
	return out.Flush()
}

func total(counts map[string]int) (n int) {
	for _, c := range counts {
		n += c
	}
	return n
}

func states(counts map[string]int) string {
	var parts []string
	for _, state := range slices.Sorted(maps.Keys(counts)) {
		parts = append(parts, fmt.Sprintf("%s %d", state, counts[state]))
	}
	return strings.Join(parts, ", ")
}
