package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/grpc-ecosystem/grpc-gateway/v2/runtime"
	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"

	"spillway.dev/platform/problem"
	gatewayv1 "spillway.dev/proto/gen/spillway/gateway/v1"
)

// maxBodyBytes bounds an HTTP request's body. The largest request of the contract is below one KiB.
const maxBodyBytes = 64 << 10

const (
	// bodyTimeout bounds how long a body may take to arrive. Without it a client that sends a byte now and then would keep
	// a connection and its memory for as long as it likes.
	bodyTimeout = 5 * time.Second
	// answerTimeout bounds a whole request, a reader that does not read included. It is longer than any deadline.
	answerTimeout = maxDeadline + 5*time.Second
)

// httpHandler serves GatewayService as HTTP with JSON. It decides what is let through; grpc-gateway's mux translates and
// calls the gateway's own gRPC server, so that a call over HTTP passes the same chain as any other.
type httpHandler struct {
	routes      []route
	mux         *runtime.ServeMux
	health      healthv1.HealthClient
	responses   *prometheus.CounterVec
	bodyTimeout time.Duration
}

// newHTTPHandler serves over conn, a connection to the gateway's own gRPC server.
func newHTTPHandler(conn *grpc.ClientConn, secureCookie bool, reg prometheus.Registerer) (*httpHandler, error) {
	table, err := routes(gatewayv1.File_spillway_gateway_v1_gateway_proto.Services().ByName("GatewayService"))
	if err != nil {
		return nil, err
	}
	responses := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "spillway_gateway_http_responses_total",
		Help: "Answers over HTTP by status code, those included that were refused before they became an RPC.",
	}, []string{"code"})
	if err := reg.Register(responses); err != nil {
		return nil, fmt.Errorf("register the HTTP metrics: %w", err)
	}
	jar := cookies{secure: secureCookie}
	mux := runtime.NewServeMux(
		runtime.WithMarshalerOption(runtime.MIMEWildcard, newStrictJSON()),
		runtime.WithIncomingHeaderMatcher(incoming),
		runtime.WithOutgoingHeaderMatcher(nothing),
		runtime.WithOutgoingTrailerMatcher(nothing),
		runtime.WithMetadata(jar.metadata),
		runtime.WithForwardResponseOption(jar.set),
		runtime.WithErrorHandler(func(_ context.Context, _ *runtime.ServeMux, _ runtime.Marshaler, w http.ResponseWriter, _ *http.Request, err error) {
			writeProblem(w, reasoned(err))
		}),
		// A POST is a POST: no form and no header turns it into another method behind the routes' back.
		runtime.WithDisablePathLengthFallback(),
		runtime.WithDisableHTTPMethodOverride(),
	)
	if err := gatewayv1.RegisterGatewayServiceHandler(context.Background(), mux, conn); err != nil {
		return nil, fmt.Errorf("register the HTTP routes: %w", err)
	}
	return &httpHandler{
		routes:      table,
		mux:         mux,
		health:      healthv1.NewHealthClient(conn),
		responses:   responses,
		bodyTimeout: bodyTimeout,
	}, nil
}

// ServeHTTP answers one request. Every refusal has the same shape: a google.rpc.Status as JSON.
func (h *httpHandler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	counted := &statusWriter{ResponseWriter: w, code: http.StatusOK}
	defer func() { h.responses.WithLabelValues(strconv.Itoa(counted.code)).Inc() }()
	if err := h.hurry(w, r); err != nil {
		writeProblem(counted, problem.From(err))
		return
	}
	// Answers are about one person at one moment, and some hold a token.
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	if r.URL.Path == "/healthz" && r.Method == http.MethodGet {
		h.healthz(counted, r)
		return
	}
	if !utf8.ValidString(r.URL.Path) {
		leaveBody(w, r)
		writeProblem(counted, problem.New(codes.InvalidArgument, reasonMalformedRequest, "the path is not UTF-8"))
		return
	}
	if allowed, refusal := check(h.routes, r.Method, r.URL); refusal != nil {
		if allowed != nil {
			w.Header().Set("Allow", strings.Join(allowed, ", "))
		}
		leaveBody(w, r)
		writeProblem(counted, refusal)
		return
	}
	body, refusal := readBody(w, r)
	if refusal != nil {
		leaveBody(w, r)
		writeProblem(counted, refusal)
		return
	}
	r.Body = io.NopCloser(bytes.NewReader(body))
	h.mux.ServeHTTP(counted, r)
}

// hurry bounds how long the client may take to send and to read. It fails where there is no connection to bound.
func (h *httpHandler) hurry(w http.ResponseWriter, r *http.Request) error {
	conn := http.NewResponseController(w)
	if err := conn.SetWriteDeadline(time.Now().Add(answerTimeout)); err != nil {
		return fmt.Errorf("bound the answer's time: %w", err)
	}
	if r.ContentLength == 0 {
		return nil
	}
	if err := conn.SetReadDeadline(time.Now().Add(h.bodyTimeout)); err != nil {
		return fmt.Errorf("bound the body's time: %w", err)
	}
	return nil
}

// leaveBody is for answers to requests whose body was not read to its end: the connection ends with them. Else the server
// would wait for the rest of the body before it answers.
func leaveBody(w http.ResponseWriter, r *http.Request) {
	if r.ContentLength != 0 {
		w.Header().Set("Connection", "close")
	}
}

// readBody takes the whole body before anything is made of it. One that says it is too large is not read at all; one
// that does not say is read up to the limit.
func readBody(w http.ResponseWriter, r *http.Request) ([]byte, *problem.Problem) {
	if r.ContentLength == 0 {
		return nil, nil
	}
	tooLarge := problem.New(codes.ResourceExhausted, problem.MessageTooLarge, "the body is larger than %d bytes", maxBodyBytes)
	if r.ContentLength > maxBodyBytes {
		return nil, tooLarge
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBodyBytes))
	if err == nil {
		// While the call is under way the server reads on, to see that the client is still there: without a deadline.
		err = http.NewResponseController(w).SetReadDeadline(time.Time{})
	}
	if _, ok := errors.AsType[*http.MaxBytesError](err); ok {
		return nil, tooLarge
	}
	if err != nil {
		return nil, problem.New(codes.InvalidArgument, reasonMalformedRequest, "the body did not arrive whole and in time").Because(err)
	}
	return body, nil
}

// healthz tells load balancers that know HTTP only what grpc.health.v1 tells the others: whether the gateway serves. It
// asks no downstream.
func (h *httpHandler) healthz(w http.ResponseWriter, r *http.Request) {
	ctx, cancel := context.WithTimeout(r.Context(), time.Second)
	defer cancel()
	state := healthv1.HealthCheckResponse_UNKNOWN
	if resp, err := h.health.Check(ctx, &healthv1.HealthCheckRequest{}); err == nil {
		state = resp.GetStatus()
	}
	w.Header().Set("Content-Type", "application/json")
	if state != healthv1.HealthCheckResponse_SERVING {
		w.WriteHeader(http.StatusServiceUnavailable)
	}
	_, _ = fmt.Fprintf(w, "{\"status\":%q}\n", state) // a reader that has gone needs no answer
}

// incoming names the request headers that become metadata. Authorization and Grpc-Timeout are grpc-gateway's own; of the
// others only the trace context is let in, so neither Grpc-Metadata-* nor anything else from outside can pass for what
// services tell each other.
func incoming(header string) (string, bool) {
	switch header {
	case "Traceparent", "Tracestate":
		return strings.ToLower(header), true
	}
	return "", false
}

// nothing keeps the gRPC server's metadata and trailers off the HTTP answer.
func nothing(string) (string, bool) { return "", false }

// statusWriter remembers the status code of an answer.
type statusWriter struct {
	http.ResponseWriter
	code int
}

// WriteHeader notes the code and passes it on.
func (w *statusWriter) WriteHeader(code int) {
	w.code = code
	w.ResponseWriter.WriteHeader(code)
}

// Unwrap lets http.ResponseController reach the connection.
func (w *statusWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }
