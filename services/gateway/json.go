package main

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"regexp"
	"strconv"
	"time"

	"github.com/grpc-ecosystem/grpc-gateway/v2/runtime"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	"spillway.dev/platform/problem"
)

// strictJSON reads a body as exactly one JSON message: no unknown field, nothing after it. (JSONPb's own decoder stops at
// the end of the first value.)
type strictJSON struct{ runtime.JSONPb }

func newStrictJSON() *strictJSON {
	return &strictJSON{runtime.JSONPb{MarshalOptions: protojson.MarshalOptions{EmitUnpopulated: true}}}
}

// NewDecoder decodes the whole of r. An empty body is io.EOF, which grpc-gateway takes for an empty message.
func (j *strictJSON) NewDecoder(r io.Reader) runtime.Decoder {
	return runtime.DecoderFunc(func(v any) error {
		body, err := io.ReadAll(r)
		if err != nil {
			return err
		}
		if len(bytes.TrimSpace(body)) == 0 {
			return io.EOF
		}
		m, ok := v.(proto.Message)
		if !ok {
			return fmt.Errorf("%T is no message", v)
		}
		return j.UnmarshalOptions.Unmarshal(body, m)
	})
}

// reasoned gives a reason to what grpc-gateway found wrong with a request itself, and to what its connection to the
// server did: those errors have none. Everything else passes.
func reasoned(err error) *problem.Problem {
	p := problem.From(err)
	switch {
	case spoken(err):
		return p
	case p.Code == codes.InvalidArgument:
		return malformed(p.Message)
	}
	if own := problem.From(passOn("the gateway", err)); own != nil {
		return own
	}
	return p
}

var (
	unknownField = regexp.MustCompile(`unknown field "([^"]*)"`)
	namedField   = regexp.MustCompile(`field "?([A-Za-z0-9_.]+)"?`)
	position     = regexp.MustCompile(`\(line \d+:\d+\)`)
)

// malformed says what is wrong with a request from the text of the decoder that refused it: which field, and where. The
// text itself is not passed on: it quotes values, and a value may be a card.
func malformed(text string) *problem.Problem {
	where := ""
	if at := position.FindString(text); at != "" {
		where = " " + at
	}
	fail := func(field, format string, args ...any) *problem.Problem {
		p := problem.New(codes.InvalidArgument, reasonMalformedRequest, format, args...)
		if field != "" {
			return p.With("field", field)
		}
		return p
	}
	if m := unknownField.FindStringSubmatch(text); m != nil {
		name := shorten(m[1])
		return fail(name, "unknown field %q%s", name, where)
	}
	if m := namedField.FindStringSubmatch(text); m != nil {
		return fail(m[1], "field %q has a value that does not fit it%s", m[1], where)
	}
	if where != "" {
		return fail("", "the body is not valid JSON%s", where)
	}
	return fail("", "the request cannot be read")
}

// writeProblem answers with a problem: its status as google.rpc.Status in JSON, its HTTP status code, and when to come back.
func writeProblem(w http.ResponseWriter, p *problem.Problem) {
	body, err := protojson.Marshal(p.GRPCStatus().Proto())
	if err != nil { // a detail of a type that this binary does not know
		body = []byte(`{"code":13,"message":"internal error","details":[]}`)
	}
	h := w.Header()
	h.Set("Content-Type", "application/json")
	h.Set("Content-Length", strconv.Itoa(len(body)))
	if p.Code == codes.Unauthenticated {
		h.Set("WWW-Authenticate", `Bearer realm="spillway"`)
	}
	if p.Retryable && (p.RetryAfter > 0 || p.Code == codes.Unavailable) {
		// The header knows whole seconds only. To come back too early is to be refused again, so they are rounded up.
		seconds := max(1, (p.RetryAfter+time.Second-1)/time.Second)
		h.Set("Retry-After", strconv.Itoa(int(seconds)))
	}
	w.WriteHeader(httpStatus(p))
	_, _ = w.Write(body) // a reader that has gone needs no answer
}

// httpStatus is google.rpc's mapping with three changes. A message that is too large and a wrong method have HTTP codes of
// their own. FAILED_PRECONDITION is 409, not 400: the request is well made, the state of things is against it.
func httpStatus(p *problem.Problem) int {
	switch {
	case p.Reason == problem.MessageTooLarge:
		return http.StatusRequestEntityTooLarge
	case p.Reason == reasonMethodNotAllowed:
		return http.StatusMethodNotAllowed
	case p.Code == codes.FailedPrecondition:
		return http.StatusConflict
	}
	return runtime.HTTPStatusFromCode(p.Code)
}
