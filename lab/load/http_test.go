package load

import (
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	"spillway.dev/platform/problem"
	gatewayv1 "spillway.dev/proto/gen/spillway/gateway/v1"
)

// site serves an office over the HTTP API of the gateway.
func site(t *testing.T, o *office, seen func(*http.Request)) string {
	t.Helper()
	answer := func(w http.ResponseWriter, resp proto.Message, err error) {
		code := http.StatusOK
		if err != nil {
			code, resp = http.StatusTeapot, problem.From(err).GRPCStatus().Proto()
		}
		text, err := protojson.MarshalOptions{EmitUnpopulated: true}.Marshal(resp)
		if err != nil {
			t.Error(err)
		}
		w.WriteHeader(code)
		_, _ = w.Write(text)
	}
	read := func(r *http.Request, into proto.Message) {
		text, err := io.ReadAll(r.Body)
		if err == nil {
			err = protojson.Unmarshal(text, into)
		}
		if err != nil && r.Context().Err() == nil {
			t.Errorf("%s: %v", r.URL, err)
		}
	}
	mux := http.NewServeMux()
	mux.HandleFunc("POST /v1/session", func(w http.ResponseWriter, r *http.Request) {
		var req gatewayv1.SignInRequest
		read(r, &req)
		resp, err := o.SignIn(r.Context(), &req)
		answer(w, resp, err)
	})
	mux.HandleFunc("GET /v1/shows", func(w http.ResponseWriter, r *http.Request) {
		resp, err := o.ListShows(r.Context(), nil)
		answer(w, resp, err)
	})
	mux.HandleFunc("GET /v1/shows/{show}/seats", func(w http.ResponseWriter, r *http.Request) {
		resp, err := o.GetSeatMap(r.Context(), &gatewayv1.GetSeatMapRequest{ShowId: r.PathValue("show")})
		answer(w, resp, err)
	})
	mux.HandleFunc("POST /v1/orders", func(w http.ResponseWriter, r *http.Request) {
		var req gatewayv1.CheckoutRequest
		read(r, &req)
		resp, err := o.Checkout(r.Context(), &req)
		answer(w, resp, err)
	})
	mux.HandleFunc("GET /v1/orders/{order}", func(w http.ResponseWriter, r *http.Request) {
		resp, err := o.GetOrder(r.Context(), &gatewayv1.GetOrderRequest{OrderId: r.PathValue("order")})
		answer(w, resp, err)
	})
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if seen != nil {
			seen(r)
		}
		mux.ServeHTTP(w, r)
	}))
	t.Cleanup(srv.Close)
	return srv.URL
}

func TestRunOverHTTP(t *testing.T) {
	var mu sync.Mutex
	classes := make(map[string]int)
	url := site(t, &office{}, func(r *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		if token := r.Header.Get("Authorization"); token != "" {
			classes[token[strings.LastIndexByte(token, '.')+1:]]++
		}
		if got := r.Header.Values("X-Spillway-Priority"); got != nil {
			t.Errorf("people say that they are %q, which is for the edge to say", got)
		}
		if strings.HasSuffix(r.URL.Path, "/seats") && !strings.HasPrefix(r.Header.Get("Authorization"), "Bearer token of load-") {
			t.Errorf("authorization: got %q", r.Header.Get("Authorization"))
		}
		if timeout := r.Header.Get("Grpc-Timeout"); !strings.HasSuffix(timeout, "m") {
			t.Errorf("grpc-timeout: got %q", timeout)
		}
	})
	gateway, err := NewHTTP(strings.TrimPrefix(url, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	c := plan{Rate: 100, For: time.Second, BuyRatio: 0.5, People: 20, BrowseDeadline: 20 * time.Second, BuyDeadline: 20 * time.Second}.load()
	c.Priorities = map[string]float64{"critical": 0.5, "sheddable": 0.5}
	r, err := Run(t.Context(), c, gateway, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := gateway.Close(); err != nil {
		t.Error(err)
	}
	addsUp(t, r)
	if r.Good != r.Offered || r.Offered == 0 || r.Purchases == 0 {
		t.Errorf("got %d good of %d, %d purchases, errors %v, refused %v", r.Good, r.Offered, r.Purchases, r.Errors, r.Refused)
	}
	if classes["critical"] == 0 || classes["sheddable"] == 0 || len(classes) != 2 {
		t.Errorf("people's names end with %v, want their classes", classes)
	}
}

func TestHTTPErrorsAreWhatTheyWouldBeOverGRPC(t *testing.T) {
	url := site(t, &office{
		signIn: func(context.Context, *gatewayv1.SignInRequest) (*gatewayv1.SignInResponse, error) {
			return nil, problem.New(codes.ResourceExhausted, problem.Overloaded, "later").Retry(time.Second)
		},
		list: func(ctx context.Context) (*gatewayv1.ListShowsResponse, error) {
			<-ctx.Done()
			return nil, ctx.Err()
		},
	}, nil)
	gateway, err := NewHTTP(url)
	if err != nil {
		t.Fatal(err)
	}
	defer gateway.Close()
	_, err = gateway.SignIn(t.Context(), &gatewayv1.SignInRequest{})
	if p := problem.From(err); p.Reason != problem.Overloaded || p.RetryAfter != time.Second {
		t.Errorf("refused: got %v", err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	_, err = gateway.ListShows(ctx, nil)
	if problem.Reason(err) != problem.DeadlineExceeded {
		t.Errorf("no answer in time: got %v", err)
	}

	proxy := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		code := map[string]int{"/v1/shows": http.StatusBadGateway, "/v1/session": http.StatusTooManyRequests}[r.URL.Path]
		if code != 0 {
			http.Error(w, "from a proxy", code)
		}
	}))
	gateway, err = NewHTTP(proxy.URL)
	if err != nil {
		t.Fatal(err)
	}
	defer gateway.Close()
	_, err = gateway.ListShows(t.Context(), nil)
	if problem.Reason(err) != problem.DependencyAway {
		t.Errorf("502: got %v", err)
	}
	_, err = gateway.SignIn(t.Context(), &gatewayv1.SignInRequest{})
	if o, _ := judge(err, 0, 0); o != shed {
		t.Errorf("429: got %v", err)
	}
	if _, err = gateway.Checkout(t.Context(), &gatewayv1.CheckoutRequest{}); status.Code(err) != codes.Internal {
		t.Errorf("an empty body: got %v", err)
	}
	proxy.Close()
	_, err = gateway.ListShows(t.Context(), nil)
	if problem.Reason(err) != problem.DependencyAway {
		t.Errorf("nobody there: got %v", err)
	}
}

func TestNewHTTPWantsAnAddress(t *testing.T) {
	for _, target := range []string{"", "ftp://x", "http://", "http://x/path", "http://x?y=1", "http://[::1"} {
		if _, err := NewHTTP(target); err == nil {
			t.Errorf("%q: want an error", target)
		}
	}
}
