package load

import (
	"time"

	"google.golang.org/grpc/codes"

	"spillway.dev/platform/problem"
)

// outcome is what came of a journey: exactly one of these.
type outcome uint8

const (
	good    outcome = iota // served within the deadline
	late                   // served, but after it
	refused                // refused by a rule of the business: a correct answer
	shed                   // refused on purpose, to protect the mesh
	failed                 // everything else
)

// refusals are the reasons by which the ticket office says no as it should.
var refusals = map[string]bool{
	"SEAT_TAKEN":    true,
	"CARD_DECLINED": true,
	SoldOut:         true,
}

// sheds are the reasons by which the mesh refuses work on purpose, also where
// they come as the end of an order and so without a status of their own.
var sheds = map[string]bool{
	problem.Overloaded:       true,
	problem.DeadlineTooShort: true,
	"QUOTA_EXCEEDED":         true,
}

// unfinished are the reasons by which an order ended because the order service
// did not hear from somebody.
var unfinished = map[string]bool{"SEATS_UNRESOLVED": true, "PAYMENT_UNRESOLVED": true}

// stores are the dependencies that keep state.
var stores = map[string]bool{"redis": true, "nats": true}

// unanswered tells whether a journey failed because nobody answered: a replica or
// a connection went away under one of its calls, here or behind the gateway, and
// no repetition helped. A service that says that its store is away has answered.
func unanswered(err error) bool {
	p := problem.From(err)
	away := p.Metadata["dependency"]
	if unfinished[p.Reason] { // it names who was away; who was only slow or full has answered
		return away != "" && !stores[away]
	}
	switch p.Reason {
	case problem.DependencyAway:
		return !stores[away]
	case "ORDER_ABANDONED": // its replica went away, and another one says so
		return true
	case problem.Canceled: // nobody gives up here before the deadline
		return true
	case "": // no service has said anything
		return p.Code == codes.Internal || p.Code == codes.Unknown
	}
	return false
}

// judge turns the end of a journey, latency after its intended begin, into an
// outcome, and a reason where there is one.
func judge(err error, latency, deadline time.Duration) (outcome, string) {
	if err == nil {
		if latency > deadline {
			return late, ""
		}
		return good, ""
	}
	p := problem.From(err)
	reason := p.Reason
	if reason == "" {
		reason = p.Code.String()
	}
	switch {
	case refusals[reason]:
		return refused, reason
	case sheds[reason], p.Code == codes.ResourceExhausted && reason != problem.MessageTooLarge:
		return shed, reason
	}
	return failed, reason
}
