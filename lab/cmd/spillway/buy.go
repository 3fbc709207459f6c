package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"spillway.dev/lab/buy"
	"spillway.dev/lab/trace"
	enginev1 "spillway.dev/proto/gen/spillway/engine/v1"
)

// tracePatience bounds how long the last spans of a purchase may take to arrive.
const tracePatience = 10 * time.Second

// ticketPatience bounds the wait for a ticket.
const ticketPatience = 15 * time.Second

func (a *app) buyCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "buy",
		Short: "Buy tickets once and show the purchase as a trace",
		Long: `Buy tickets as a person would: sign in, list the shows, look at the seats, check
out, wait for the ticket. Every step is printed with the time it took, then the
trace of all of it, from here through every service, across JetStream into
ticketing.`,
		Example: "  spillway buy\n  spillway buy --show river-songs --seats 2 --person ada\n  spillway buy --card tok_declined    # see an order undone",
		Args:    arguments(0),
	}
	var o buy.Order
	flags := cmd.Flags()
	flags.StringVar(&o.Person, "person", "ada", "who buys")
	flags.StringVar(&o.Show, "show", "", "the show's id (default: one with free seats)")
	flags.IntVar(&o.Seats, "seats", 2, "how many seats side by side, 1 to 8")
	flags.StringVar(&o.Card, "card", "tok_visa", "card token; one that begins with tok_declined is declined")
	asJSON := addJSON(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if o.Seats < 1 || o.Seats > 8 {
			return usagef("--seats is %d; give 1 to 8", o.Seats)
		}
		o.Patience = ticketPatience
		return a.withEngine(func(engine enginev1.EngineServiceClient) error { return a.buy(cmd.Context(), engine, o, *asJSON) })
	}
	return cmd
}

func (a *app) buy(ctx context.Context, engine enginev1.EngineServiceClient, o buy.Order, asJSON bool) error {
	info, err := engine.GetInfo(ctx, &enginev1.GetInfoRequest{})
	if err != nil {
		return fmt.Errorf("ask the engine where the gateway is: %w", err)
	}
	if info.GetGatewayGrpcAddress() == "" {
		return errors.New("the mesh has no gateway yet; `spillway ps` shows how far it is")
	}
	o.Gateway, o.OTLP = info.GetGatewayGrpcAddress(), info.GetOtlpAddress()
	var progress func(buy.Step)
	if !asJSON {
		progress = func(s buy.Step) { fmt.Fprintf(a.out, "%-20s%10s   %s\n", s.Name, trace.Duration(s.Took), s.Detail) }
	}
	p, failed := buy.Make(ctx, o, progress)

	patience := tracePatience
	if failed != nil {
		patience = time.Second // it will not be whole; a moment for the last spans
	}
	waitCtx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	tree, missing, err := buy.Await(waitCtx, engine, p.TraceID)
	if asJSON {
		return errors.Join(failed, err, a.printPurchase(p, tree, missing))
	}
	if p.Ticket != nil {
		fmt.Fprintf(a.out, "\nticket %s for %s: %s, paid %s\n", p.Ticket.GetTicketId(), p.Show.GetTitle(),
			strings.Join(p.Ticket.GetSeatIds(), " "), buy.Money(p.Order.GetAmountCents()))
	}
	fmt.Fprintln(a.out)
	if err == nil {
		err = tree.Waterfall(a.out, width(a.out))
	}
	if failed == nil && missing != nil {
		fmt.Fprintf(a.err, "\nThe trace was not whole after %s: %s. `%s trace %s` may show more.\n",
			tracePatience, strings.Join(missing, ", "), os.Args[0], p.TraceID)
	}
	return errors.Join(failed, err)
}

// printPurchase prints what a program wants to know of a purchase.
func (a *app) printPurchase(p *buy.Purchase, tree *trace.Tree, missing []string) error {
	type step struct {
		Name   string  `json:"name"`
		TookMS float64 `json:"took_ms"`
		Detail string  `json:"detail"`
	}
	out := struct {
		TraceID  string          `json:"trace_id"`
		Steps    []step          `json:"steps"`
		Order    json.RawMessage `json:"order"`
		Ticket   json.RawMessage `json:"ticket"`
		Spans    int             `json:"spans"`
		Roots    int             `json:"roots"`
		Services []string        `json:"services"`
		Missing  []string        `json:"missing"`
	}{TraceID: p.TraceID, Spans: tree.Spans, Roots: len(tree.Roots), Services: tree.Services(), Missing: missing}
	for _, s := range p.Steps {
		out.Steps = append(out.Steps, step{s.Name, float64(s.Took.Microseconds()) / 1000, s.Detail})
	}
	var err1, err2 error
	if p.Order != nil {
		out.Order, err1 = protoJSON(p.Order)
	}
	if p.Ticket != nil {
		out.Ticket, err2 = protoJSON(p.Ticket)
	}
	return errors.Join(err1, err2, a.printJSON(out))
}
