package load

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	gatewayv1 "spillway.dev/proto/gen/spillway/gateway/v1"
)

// largestAnswer bounds what is read of one answer: a seat map has some KiB.
const largestAnswer = 4 << 20

// HTTP calls a gateway's HTTP API as a Gateway. Errors are what they would be
// over gRPC: the answer's google.rpc.Status, or Unavailable when there is no
// answer. Safe for concurrent use.
type HTTP struct {
	base   string
	client *http.Client
}

// NewHTTP is for a gateway at host:port or at a URL such as http://host:port.
func NewHTTP(target string) (*HTTP, error) {
	if !strings.Contains(target, "://") {
		target = "http://" + target
	}
	u, err := url.Parse(target)
	if err != nil {
		return nil, err
	}
	if u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || strings.Trim(u.Path, "/") != "" || u.RawQuery != "" {
		return nil, errors.New("this is no address of an HTTP server; give host:port or http://host:port")
	}
	return &HTTP{base: u.Scheme + "://" + u.Host, client: &http.Client{Transport: &http.Transport{
		DialContext: (&net.Dialer{Timeout: 2 * time.Second}).DialContext,
		// Connections are as many as calls are under way: a bound would make calls
		// wait for each other. Those at rest are kept, so that few are made anew.
		MaxIdleConns: 1024, MaxIdleConnsPerHost: 1024, IdleConnTimeout: 30 * time.Second,
		DisableCompression: true,
	}}}, nil
}

// Close ends the connections that are at rest.
func (h *HTTP) Close() error {
	h.client.CloseIdleConnections()
	return nil
}

// SignIn opens a session.
func (h *HTTP) SignIn(ctx context.Context, req *gatewayv1.SignInRequest, _ ...grpc.CallOption) (*gatewayv1.SignInResponse, error) {
	resp := new(gatewayv1.SignInResponse)
	return resp, h.call(ctx, http.MethodPost, "/v1/session", req, resp)
}

// ListShows lists what is on sale.
func (h *HTTP) ListShows(ctx context.Context, _ *gatewayv1.ListShowsRequest, _ ...grpc.CallOption) (*gatewayv1.ListShowsResponse, error) {
	resp := new(gatewayv1.ListShowsResponse)
	return resp, h.call(ctx, http.MethodGet, "/v1/shows", nil, resp)
}

// GetSeatMap tells which seats of a show are free.
func (h *HTTP) GetSeatMap(ctx context.Context, req *gatewayv1.GetSeatMapRequest, _ ...grpc.CallOption) (*gatewayv1.GetSeatMapResponse, error) {
	resp := new(gatewayv1.GetSeatMapResponse)
	return resp, h.call(ctx, http.MethodGet, "/v1/shows/"+url.PathEscape(req.GetShowId())+"/seats", nil, resp)
}

// Checkout buys seats.
func (h *HTTP) Checkout(ctx context.Context, req *gatewayv1.CheckoutRequest, _ ...grpc.CallOption) (*gatewayv1.CheckoutResponse, error) {
	resp := new(gatewayv1.CheckoutResponse)
	return resp, h.call(ctx, http.MethodPost, "/v1/orders", req, resp)
}

// GetOrder tells what has come of an order.
func (h *HTTP) GetOrder(ctx context.Context, req *gatewayv1.GetOrderRequest, _ ...grpc.CallOption) (*gatewayv1.GetOrderResponse, error) {
	resp := new(gatewayv1.GetOrderResponse)
	return resp, h.call(ctx, http.MethodGet, "/v1/orders/"+url.PathEscape(req.GetOrderId()), nil, resp)
}

// call sends one request; body may be nil. The context's outgoing metadata go as
// headers, its deadline as Grpc-Timeout.
func (h *HTTP) call(ctx context.Context, method, path string, body, answer proto.Message) error {
	var text []byte
	if body != nil {
		var err error
		if text, err = protojson.Marshal(body); err != nil {
			return status.Errorf(codes.Internal, "write the request: %v", err)
		}
	}
	req, err := http.NewRequestWithContext(ctx, method, h.base+path, bytes.NewReader(text))
	if err != nil {
		return status.Errorf(codes.Internal, "make the request: %v", err)
	}
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	md, _ := metadata.FromOutgoingContext(ctx)
	for key, values := range md {
		for _, v := range values {
			req.Header.Add(key, v)
		}
	}
	if deadline, ok := ctx.Deadline(); ok {
		left := max(time.Until(deadline), time.Millisecond)
		req.Header.Set("Grpc-Timeout", strconv.FormatInt(left.Milliseconds(), 10)+"m")
	}
	resp, err := h.client.Do(req)
	if err != nil {
		return away(ctx, err)
	}
	defer resp.Body.Close()
	text, err = io.ReadAll(io.LimitReader(resp.Body, largestAnswer))
	if err != nil {
		return away(ctx, err)
	}
	if resp.StatusCode != http.StatusOK {
		return refusal(resp.StatusCode, text)
	}
	if err := (protojson.UnmarshalOptions{DiscardUnknown: true}).Unmarshal(text, answer); err != nil {
		return status.Errorf(codes.Internal, "the answer is not this call's JSON: %v", err)
	}
	return nil
}

// away is for a request without an answer: its time was over, or nobody was there.
func away(ctx context.Context, err error) error {
	if errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled) {
		return err
	}
	if ctx.Err() != nil {
		return fmt.Errorf("%w: %w", ctx.Err(), err)
	}
	return status.Errorf(codes.Unavailable, "no answer: %v", err)
}

// refusal is the status that an answer's body holds, or one made from its HTTP
// code when something between here and the gateway has answered.
func refusal(code int, body []byte) error {
	st := status.New(codes.OK, "").Proto()
	if err := (protojson.UnmarshalOptions{DiscardUnknown: true}).Unmarshal(body, st); err == nil && st.GetCode() != 0 {
		return status.ErrorProto(st)
	}
	as := codes.Unknown
	switch code {
	case http.StatusTooManyRequests:
		as = codes.ResourceExhausted
	case http.StatusBadGateway, http.StatusServiceUnavailable:
		as = codes.Unavailable
	case http.StatusGatewayTimeout:
		as = codes.DeadlineExceeded
	}
	return status.Errorf(as, "HTTP %d", code)
}
