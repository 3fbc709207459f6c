package main

import (
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"spillway.dev/platform/problem"
)

// Reasons that the gateway alone gives. docs/errors.md lists every reason of the mesh.
const (
	// reasonMalformedRequest (InvalidArgument): HTTP only; the body, a query parameter or the timeout cannot be read, or
	// names a field that the request does not have.
	reasonMalformedRequest = "MALFORMED_REQUEST"
	// reasonUnknownPath (NotFound): HTTP only; nothing is served under that path.
	reasonUnknownPath = "UNKNOWN_PATH"
	// reasonMethodNotAllowed (Unimplemented): HTTP only; the path is served, but not for that method.
	reasonMethodNotAllowed = "METHOD_NOT_ALLOWED"
	// reasonSessionRequired (Unauthenticated): the call needs a session and came with none.
	reasonSessionRequired = "SESSION_REQUIRED"
)

// retryAfter is what a caller is told to wait when something behind the gateway is away: longer than the mesh needs to
// take a dead replica out of balancing, short enough that a person does not give up.
const retryAfter = time.Second

// passOn is a downstream's error as people outside see it. What a service gave a reason for passes with its status, reason
// and details. What the transport made up on the way (nobody answered, time ran out) has a text that tells addresses, so
// it gets one of its own, and a time to wait.
func passOn(callee string, err error) error {
	if err == nil {
		return nil
	}
	p := problem.From(err)
	if spoken(err) {
		return p
	}
	switch p.Code {
	case codes.Unavailable:
		return problem.New(p.Code, problem.DependencyAway, "%s is away; try again", callee).Retry(retryAfter).Because(err)
	case codes.DeadlineExceeded:
		return problem.New(p.Code, problem.DeadlineExceeded, "%s did not answer in time", callee).Retry(0).Because(err)
	case codes.Canceled:
		return p
	}
	return problem.New(codes.Internal, problem.Internal, "%s failed; its log has the cause", callee).Because(err)
}

// spoken tells whether the peer's own code gave the error a reason.
func spoken(err error) bool {
	for _, d := range status.Convert(err).Details() {
		if info, ok := d.(*errdetails.ErrorInfo); ok && info.GetDomain() == problem.Domain {
			return true
		}
	}
	return false
}
