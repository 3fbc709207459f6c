// Package problem is the one typed error that crosses RPC in the mesh.
//
// A handler returns a *Problem (also wrapped) and grpc-go turns it into a status through its GRPCStatus method; a caller
// turns what it received back into a *Problem with From. Reason, metadata and "may be tried again" travel as
// google.rpc.ErrorInfo, the waiting time as google.rpc.RetryInfo, so that clients in any language can read them.
//
// What crosses is the code, the reason, the message and the metadata. What does not cross: the text of wrappers, and the
// text of errors that are not problems, which may carry addresses or secrets.
package problem

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"strings"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/protoadapt"
	"google.golang.org/protobuf/types/known/durationpb"
)

// Domain is the ErrorInfo domain of every problem; reasons are unique within it.
const Domain = "spillway.dev"

// retryableKey is the ErrorInfo metadata key under which Retryable travels.
const retryableKey = "retryable"

// Problem is a failure as its caller may see it. It is not changed once made: Retry and With return copies, so a problem
// may be a package variable and may be shared between goroutines.
type Problem struct {
	// Code is the canonical status code.
	Code codes.Code
	// Reason names the cause in UPPER_SNAKE_CASE for programs to decide on. "" when the peer gave none.
	Reason string
	// Message is for people. It crosses RPC, so it holds no secret, and it names the remedy where there is one.
	Message string
	// Retryable says that the same request, tried again, may succeed.
	Retryable bool
	// RetryAfter is how long the caller should wait before trying again; 0 when the server does not know.
	RetryAfter time.Duration
	// Metadata holds further facts for programs.
	Metadata map[string]string

	// foreign holds details that came with a received status and are not ours (such as field violations), passed on as
	// they are.
	foreign []protoadapt.MessageV1

	cause error // for this process's log only

	prepared *status.Status // what GRPCStatus gives; nil when it is made on each call
}

// New makes a problem that is not retryable. The reason is one of this package's constants or the service's own. A code
// of OK would make the failure vanish on the wire, so it becomes Internal.
func New(code codes.Code, reason, format string, args ...any) *Problem {
	if code == codes.OK {
		code = codes.Internal
	}
	return &Problem{Code: code, Reason: reason, Message: fmt.Sprintf(format, args...)}
}

// Retry returns a copy that may be tried again after the given time; 0 leaves the time to the caller.
func (p *Problem) Retry(after time.Duration) *Problem {
	c := p.clone()
	c.Retryable = true
	c.RetryAfter = max(after, 0)
	return c
}

// With returns a copy that carries one more fact.
func (p *Problem) With(key, value string) *Problem {
	c := p.clone()
	if c.Metadata == nil {
		c.Metadata = map[string]string{}
	}
	c.Metadata[key] = value
	return c
}

// Because returns a copy that knows what it came from. The cause shows in Error and to errors.Is, so in this process's log;
// it never crosses RPC.
func (p *Problem) Because(cause error) *Problem {
	c := p.clone()
	c.cause = cause
	return c
}

func (p *Problem) clone() *Problem {
	c := *p
	c.Metadata = maps.Clone(p.Metadata)
	c.prepared = nil
	return &c
}

// Prepared returns a copy whose status is made now and not each time that it is sent, for a refusal that is one variable
// and is given to thousands of calls.
func (p *Problem) Prepared() *Problem {
	c := p.clone()
	c.prepared = c.GRPCStatus()
	return c
}

// Error gives the reason, the message and the cause.
func (p *Problem) Error() string {
	if p == nil {
		return "nil problem"
	}
	name := p.Reason
	if name == "" {
		name = p.Code.String()
	}
	if p.cause != nil {
		return fmt.Sprintf("%s: %s: %v", name, p.Message, p.cause)
	}
	return fmt.Sprintf("%s: %s", name, p.Message)
}

// Unwrap gives the cause.
func (p *Problem) Unwrap() error { return p.cause }

// Is makes errors.Is hold between problems of the same code and reason, whatever their messages say: what came over RPC
// equals the variable it was made from.
func (p *Problem) Is(target error) bool {
	t, ok := target.(*Problem)
	return ok && t != nil && p.Reason != "" && t.Reason == p.Reason && t.Code == p.Code
}

// GRPCStatus is what grpc-go sends for this error.
func (p *Problem) GRPCStatus() *status.Status {
	if p.prepared != nil {
		return p.prepared
	}
	st := status.New(p.Code, p.Message)
	var details []protoadapt.MessageV1
	if p.Reason != "" {
		info := &errdetails.ErrorInfo{Reason: p.Reason, Domain: Domain, Metadata: maps.Clone(p.Metadata)}
		if info.Metadata == nil {
			info.Metadata = map[string]string{}
		}
		info.Metadata[retryableKey] = fmt.Sprint(p.Retryable)
		details = append(details, protoadapt.MessageV1Of(info))
	}
	if p.Retryable && p.RetryAfter > 0 {
		details = append(details, protoadapt.MessageV1Of(&errdetails.RetryInfo{RetryDelay: durationpb.New(p.RetryAfter)}))
	}
	details = append(details, p.foreign...)
	if len(details) == 0 {
		return st
	}
	full, err := st.WithDetails(details...)
	if err != nil { // code OK in a literal, or metadata that is not UTF-8: the code and message still count
		return st
	}
	return full
}

// From turns any error into a problem: a *Problem or a received status, also wrapped, keeps its code, reason and message;
// a context's end becomes DEADLINE_EXCEEDED or CANCELED; anything else becomes Internal without its text. It gives nil
// for nil; since that is a typed nil, interceptors that return an error use Wire.
func From(err error) *Problem {
	if err == nil {
		return nil
	}
	if p, ok := errors.AsType[*Problem](err); ok {
		if p == nil { // a handler took a nil *Problem for a nil error
			return internal()
		}
		return p
	}
	if s, ok := errors.AsType[interface {
		error
		GRPCStatus() *status.Status
	}](err); ok {
		if st := s.GRPCStatus(); st != nil && st.Code() != codes.OK {
			return fromStatus(st)
		}
	}
	switch {
	case errors.Is(err, context.DeadlineExceeded):
		return New(codes.DeadlineExceeded, DeadlineExceeded, "the deadline passed before the work was done").Retry(0)
	case errors.Is(err, context.Canceled):
		return New(codes.Canceled, Canceled, "the caller gave up")
	}
	return internal()
}

func internal() *Problem {
	return New(codes.Internal, Internal, "internal error; the server's log has the cause")
}

// Wire is From for code that returns an error: nil stays nil, everything else is safe to send.
func Wire(err error) error {
	if err == nil {
		return nil
	}
	return From(err)
}

// Reason gives the reason of err, "" when it has none or is nil.
func Reason(err error) string {
	if err == nil {
		return ""
	}
	return From(err).Reason
}

func fromStatus(st *status.Status) *Problem {
	p := &Problem{Code: st.Code(), Message: st.Message()}
	ours := false
	for _, d := range st.Details() {
		switch d := d.(type) {
		case *errdetails.ErrorInfo:
			if d.GetDomain() != Domain {
				p.foreign = append(p.foreign, protoadapt.MessageV1Of(d))
				continue
			}
			ours = true
			p.Reason = d.GetReason()
			p.Retryable = d.GetMetadata()[retryableKey] == "true"
			for k, v := range d.GetMetadata() {
				if k != retryableKey {
					if p.Metadata == nil {
						p.Metadata = map[string]string{}
					}
					p.Metadata[k] = v
				}
			}
		case *errdetails.RetryInfo:
			p.RetryAfter = d.GetRetryDelay().AsDuration()
		case proto.Message:
			p.foreign = append(p.foreign, protoadapt.MessageV1Of(d))
		}
	}
	if !ours {
		bare(p)
	}
	return p
}

// bare gives reason and retryability to a status that grpc-go itself made, on either side: those carry no details.
func bare(p *Problem) {
	switch p.Code {
	case codes.DeadlineExceeded:
		p.Reason, p.Retryable = DeadlineExceeded, true
	case codes.Canceled:
		p.Reason = Canceled
	case codes.Unavailable:
		p.Reason, p.Retryable = DependencyAway, true
	case codes.ResourceExhausted:
		// The transport refuses an oversized message before any interceptor or handler runs, so no reason can be put on
		// there; its message is the only sign.
		if strings.HasPrefix(p.Message, "grpc: received message") && strings.Contains(p.Message, "larger than max") {
			p.Reason = MessageTooLarge
		}
	}
}
