package main

import (
	"bufio"
	"context"
	"encoding/hex"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/protobuf/types/known/timestamppb"

	"spillway.dev/platform/problem"
	catalogv1 "spillway.dev/proto/gen/spillway/catalog/v1"
	orderv1 "spillway.dev/proto/gen/spillway/order/v1"
	sessionv1 "spillway.dev/proto/gen/spillway/session/v1"
)

var errForged = problem.New(codes.Unauthenticated, problem.SessionInvalid, "the session is not valid: sign in again")

func hexID(id []byte) string { return hex.EncodeToString(id) }

func purchase(key string) string {
	return fmt.Sprintf(`{"idempotencyKey":%q,"showId":"opening-night","seatIds":["B-3","B-4"],"cardToken":%q}`, key, card)
}

// A browser signs in, buys, renews its session and signs out; it never sees more of the session than its cookie.
func TestCookieFlow(t *testing.T) {
	const renewed = "cmVuZXdlZC10b2tlbi1vZi1hbm4tbm8tb25lLW1heS1zZWU"
	m := ann()
	var buyer string
	m.order.checkout = func(_ context.Context, req *orderv1.CheckoutRequest) (*orderv1.CheckoutResponse, error) {
		buyer = req.GetPersonId()
		return &orderv1.CheckoutResponse{Order: &orderv1.Order{
			OrderId: orderID, PersonId: "ann", ShowId: req.GetShowId(), SeatIds: req.GetSeatIds(), AmountCents: 9000,
			State: orderv1.OrderState_ORDER_STATE_CONFIRMED, RequestHash: []byte("hash"), LeaseOwner: "order-7",
		}}, nil
	}
	m.refresh = func(_ context.Context, req *sessionv1.RefreshRequest) (*sessionv1.RefreshResponse, error) {
		if req.GetToken() != token {
			return nil, errForged
		}
		return &sessionv1.RefreshResponse{Token: renewed, ExpiresAt: timestamppb.New(sessionEnd)}, nil
	}
	var ended string
	m.revoke = func(_ context.Context, req *sessionv1.RevokeRequest) (*sessionv1.RevokeResponse, error) {
		ended = req.GetToken()
		return &sessionv1.RevokeResponse{Ended: 1}, nil
	}
	g := start(t, m)
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	g.http.Jar = jar
	site, _ := url.Parse(g.base)
	held := func() string {
		if cookies := jar.Cookies(site); len(cookies) == 1 && cookies[0].Name == cookieName {
			return cookies[0].Value
		}
		return ""
	}

	g.do(t, "GET", "/v1/orders/"+orderID, nil).refused(t, 401, reasonSessionRequired)
	in := g.do(t, "POST", "/v1/session", strings.NewReader(`{"personId":"ann"}`))
	want := "spillway_session=" + claimOf("ann").join(token) + "; Path=/; Expires=Mon, 02 Jan 2040 03:04:05 GMT; HttpOnly; SameSite=Lax"
	if in.status != 200 || in.header.Get("Set-Cookie") != want {
		t.Fatalf("sign-in answers %d with the cookie %q, want %q", in.status, in.header.Get("Set-Cookie"), want)
	}
	if !strings.Contains(in.body, token) || in.header.Get("Cache-Control") != "no-store" {
		t.Errorf("the answer must hold the token and be kept by no cache: %s %v", in.body, in.header)
	}

	bought := g.do(t, "POST", "/v1/orders", strings.NewReader(purchase("key-0001")))
	if bought.status != 200 || buyer != "ann" || !strings.Contains(bought.body, "ORDER_STATE_CONFIRMED") {
		t.Errorf("checkout answers %d %s for %q", bought.status, bought.body, buyer)
	}
	for _, inside := range []string{"order-7", "lease", "Hash", "ann"} {
		if strings.Contains(bought.body, inside) {
			t.Errorf("the answer shows %q, which is nobody's business: %s", inside, bought.body)
		}
	}

	if r := g.do(t, "POST", "/v1/session/refresh", nil); r.status != 200 || held() != claimOf("ann").join(renewed) {
		t.Errorf("refresh answers %d and leaves the cookie %q", r.status, held())
	}
	out := g.do(t, "DELETE", "/v1/session", nil)
	if out.status != 200 || ended != renewed || held() != "" {
		t.Errorf("sign-out answers %d, ends %q and leaves the cookie %q", out.status, ended, held())
	}
	g.do(t, "POST", "/v1/orders", strings.NewReader(purchase("key-0002"))).refused(t, 401, reasonSessionRequired)
}

func TestSecureCookieByConfiguration(t *testing.T) {
	g := start(t, ann(), "SPILLWAY_GATEWAY_COOKIE_SECURE=true")
	a := g.do(t, "POST", "/v1/session", strings.NewReader(`{"personId":"ann"}`))
	if got := a.header.Get("Set-Cookie"); !strings.Contains(got, "; Secure") {
		t.Errorf("the cookie is %q, want it Secure", got)
	}
}

// Sign-in ends the session that the caller came with, wherever its token was.
func TestSignInEndsThePreviousSession(t *testing.T) {
	m := ann()
	previous := make(chan string, 1)
	m.signIn = func(_ context.Context, req *sessionv1.SignInRequest) (*sessionv1.SignInResponse, error) {
		previous <- req.GetPreviousToken()
		return &sessionv1.SignInResponse{Token: token}, nil
	}
	g := start(t, m)
	for _, tc := range []struct {
		name    string
		headers []string
		want    string
	}{
		{"none", nil, ""},
		{"cookie", cookie, token},
		{"bearer", []string{"Authorization", "Bearer abc"}, "abc"},
		{"the header comes before the cookie", append([]string{"Authorization", "Bearer abc"}, cookie...), "abc"},
		{"too long for a token", []string{"Authorization", "Bearer " + strings.Repeat("a", 129)}, ""},
		{"two cookies that differ", []string{"Cookie", cookieName + "=a; " + cookieName + "=b"}, ""},
		{"another scheme", []string{"Authorization", "Basic YW5uOmE="}, ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			a := g.do(t, "POST", "/v1/session", strings.NewReader(`{"personId":"ann"}`), tc.headers...)
			if got := <-previous; a.status != 200 || got != tc.want {
				t.Errorf("answer %d with the previous token %q, want %q", a.status, got, tc.want)
			}
		})
	}
}

// Everything that can be wrong with a request as such is refused before anybody is asked, in one shape.
func TestBadRequests(t *testing.T) {
	m := ann()
	var asked atomic.Int64
	m.order.checkout = func(context.Context, *orderv1.CheckoutRequest) (*orderv1.CheckoutResponse, error) {
		asked.Add(1)
		return &orderv1.CheckoutResponse{}, nil
	}
	g := start(t, m)
	for _, tc := range []struct {
		name, method, path, body string
		status                   int
		reason, field            string
	}{
		{"malformed JSON", "POST", "/v1/orders", `{"showId":`, 400, reasonMalformedRequest, ""},
		{"not JSON at all", "POST", "/v1/orders", `show=opening-night`, 400, reasonMalformedRequest, ""},
		{"something after the JSON", "POST", "/v1/orders", purchase("key-0001") + "{}", 400, reasonMalformedRequest, ""},
		{"a list instead of an object", "POST", "/v1/orders", `[]`, 400, reasonMalformedRequest, ""},
		{"invalid UTF-8", "POST", "/v1/orders", "{\"showId\":\"\xff\"}", 400, reasonMalformedRequest, ""},
		{"unknown field", "POST", "/v1/orders", `{"showId":"a","discount":5}`, 400, reasonMalformedRequest, "discount"},
		{"the person is not the request's to name", "POST", "/v1/orders", `{"personId":"bob"}`, 400, reasonMalformedRequest, "personId"},
		{"the same field twice", "POST", "/v1/session", `{"personId":"ann","personId":"bob"}`, 400, reasonMalformedRequest, "personId"},
		{"a value of another type", "POST", "/v1/session", `{"personId":7}`, 400, reasonMalformedRequest, "personId"},
		{"unknown query parameter", "GET", "/v1/shows?page=2", "", 400, reasonMalformedRequest, "page"},
		{"query parameter beside a body", "POST", "/v1/orders?showId=a", purchase("key-0001"), 400, reasonMalformedRequest, "showId"},
		{"a path's field again in the query", "GET", "/v1/orders/" + orderID + "?orderId=x", "", 400, reasonMalformedRequest, "orderId"},
		{"query parameter of another type", "DELETE", "/v1/session?everywhere=maybe", "", 400, reasonMalformedRequest, "everywhere"},
		{"broken query string", "GET", "/v1/shows?a;b=%zz", "", 400, reasonMalformedRequest, ""},
		{"a path that is not UTF-8", "GET", "/v1/shows/%ff/seats", "", 400, reasonMalformedRequest, ""},
		{"empty body", "POST", "/v1/orders", "", 400, problem.InvalidArgument, "idempotency_key"},
		{"a person nobody can be", "POST", "/v1/session", `{"personId":"-1"}`, 400, problem.InvalidArgument, "person_id"},
		{"a negative order", "GET", "/v1/orders/-1", "", 400, problem.InvalidArgument, "order_id"},
		{"an order out of alphabet", "GET", "/v1/orders/o-ABCDEFGHIJKLMNOPQRSTUVWXYZ/ticket", "", 400, problem.InvalidArgument, "order_id"},
		{"a show out of alphabet", "GET", "/v1/shows/No%20Show/seats", "", 400, problem.InvalidArgument, "show_id"},
		{"a negative seat", "POST", "/v1/orders", strings.Replace(purchase("key-0001"), "B-3", "B--3", 1), 400, problem.InvalidArgument, "seat_ids[0]"},
		{"seat 0", "POST", "/v1/orders", strings.Replace(purchase("key-0001"), "B-3", "B-0", 1), 400, problem.InvalidArgument, "seat_ids[0]"},
		{"a seat twice", "POST", "/v1/orders", strings.Replace(purchase("key-0001"), "B-3", "B-4", 1), 400, problem.InvalidArgument, "seat_ids"},
		{"no seat", "POST", "/v1/orders", strings.Replace(purchase("key-0001"), `"B-3","B-4"`, "", 1), 400, problem.InvalidArgument, "seat_ids"},
		{"a card that is none", "POST", "/v1/orders", strings.Replace(purchase("key-0001"), "tok_", "", 1), 400, problem.InvalidArgument, "card_token"},
		{"a key too short", "POST", "/v1/orders", purchase("k"), 400, problem.InvalidArgument, "idempotency_key"},
		{"unknown path", "GET", "/v2/shows", "", 404, reasonUnknownPath, ""},
		{"the root", "GET", "/", "", 404, reasonUnknownPath, ""},
		{"an empty id", "GET", "/v1/orders/", "", 404, reasonUnknownPath, ""},
		{"the wrong method", "PUT", "/v1/orders", purchase("key-0001"), 405, reasonMethodNotAllowed, ""},
		{"a method that does not exist", "BUY", "/v1/shows", "", 405, reasonMethodNotAllowed, ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			a := g.do(t, tc.method, tc.path, strings.NewReader(tc.body), cookie...)
			a.refused(t, tc.status, tc.reason)
			if _, field := a.reason(t); field != tc.field {
				t.Errorf("blames the field %q, want %q", field, tc.field)
			}
		})
	}
	if n := asked.Load(); n != 0 {
		t.Errorf("%d bad requests came through to order", n)
	}
	if a := g.do(t, "PATCH", "/v1/session", nil); a.header.Get("Allow") != "DELETE, POST" {
		t.Errorf("405 allows %q, want DELETE, POST", a.header.Get("Allow"))
	}
	override := g.do(t, "POST", "/v1/session", strings.NewReader("everywhere=true"),
		"Content-Type", "application/x-www-form-urlencoded", "X-HTTP-Method-Override", "DELETE")
	override.refused(t, 400, reasonMalformedRequest)
	g.do(t, "GET", "/v1/shows", nil, "Grpc-Timeout", "soon").refused(t, 400, reasonMalformedRequest)
}

// endless is a body without end that counts what is taken of it.
type endless struct{ read atomic.Int64 }

func (e *endless) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = ' '
	}
	e.read.Add(int64(len(p)))
	return len(p), nil
}

func TestOversizedBodies(t *testing.T) {
	g := start(t, ann())
	t.Run("one that says so is not read", func(t *testing.T) {
		// Only the head is sent: if the gateway waited for the body, no answer would come.
		conn, err := net.Dial("tcp", strings.TrimPrefix(g.base, "http://"))
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		if err := conn.SetDeadline(time.Now().Add(20 * time.Second)); err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(conn, "POST /v1/orders HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n", maxBodyBytes+1)
		resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		text, _ := io.ReadAll(resp.Body)
		answer{resp.StatusCode, resp.Header, string(text)}.refused(t, 413, problem.MessageTooLarge)
	})
	t.Run("one without end is read up to the limit", func(t *testing.T) {
		counted := &endless{}
		req := httptest.NewRequest("POST", "/v1/orders", counted) // of unknown length
		_, refusal := readBody(deadlineRecorder{httptest.NewRecorder()}, req)
		if problem.Reason(refusal) != problem.MessageTooLarge {
			t.Errorf("refused with %v", refusal)
		}
		if n := counted.read.Load(); n > 2*maxBodyBytes {
			t.Errorf("%d bytes of it were read", n)
		}
	})
	t.Run("the largest is taken", func(t *testing.T) {
		body := `{"personId":"ann"}` + strings.Repeat(" ", maxBodyBytes-len(`{"personId":"ann"}`))
		if a := g.do(t, "POST", "/v1/session", strings.NewReader(body)); a.status != 200 {
			t.Errorf("a body of %d bytes is answered with %d %s", len(body), a.status, a.body)
		}
	})
}

// deadlineRecorder is a recorder that takes deadlines as a connection does.
type deadlineRecorder struct{ *httptest.ResponseRecorder }

func (deadlineRecorder) SetReadDeadline(time.Time) error  { return nil }
func (deadlineRecorder) SetWriteDeadline(time.Time) error { return nil }

// A client that sends its body a byte now and then is told off and cut off.
func TestSlowBody(t *testing.T) {
	addr := serve(t, func(*grpc.Server) {})
	conn, err := grpc.NewClient(addr, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	h, err := newHTTPHandler(conn, false, prometheus.NewRegistry())
	if err != nil {
		t.Fatal(err)
	}
	h.bodyTimeout = 50 * time.Millisecond
	server := httptest.NewServer(h)
	defer server.Close()
	slow, err := net.Dial("tcp", server.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer slow.Close()
	if err := slow.SetDeadline(time.Now().Add(20 * time.Second)); err != nil {
		t.Fatal(err)
	}
	fmt.Fprint(slow, "POST /v1/session HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{")
	text, err := io.ReadAll(slow) // until the gateway closes the connection
	if err != nil {
		t.Fatal(err)
	}
	if !strings.HasPrefix(string(text), "HTTP/1.1 400 ") || !strings.Contains(string(text), reasonMalformedRequest) {
		t.Errorf("the answer is %q", text)
	}
}

func TestHealthz(t *testing.T) {
	states := health.NewServer()
	addr := serve(t, func(s *grpc.Server) { healthv1.RegisterHealthServer(s, states) })
	conn, err := grpc.NewClient(addr, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	h, err := newHTTPHandler(conn, false, prometheus.NewRegistry())
	if err != nil {
		t.Fatal(err)
	}
	for state, want := range map[healthv1.HealthCheckResponse_ServingStatus]int{
		healthv1.HealthCheckResponse_SERVING:     200,
		healthv1.HealthCheckResponse_NOT_SERVING: 503,
	} {
		states.SetServingStatus("", state)
		w := deadlineRecorder{httptest.NewRecorder()}
		h.ServeHTTP(w, httptest.NewRequest("GET", "/healthz", nil))
		if w.Code != want || !strings.Contains(w.Body.String(), state.String()) {
			t.Errorf("%v is answered with %d %s, want %d", state, w.Code, w.Body, want)
		}
	}
}

// A trace that begins at the client goes on through the gateway to what it calls.
func TestTraceparentOverHTTP(t *testing.T) {
	const trace = "4bf92f3577b34da6a3ce929d0e0e4736"
	spans := collect(t)
	m := ann()
	m.catalog.list = func(context.Context, *catalogv1.ListShowsRequest) (*catalogv1.ListShowsResponse, error) {
		return &catalogv1.ListShowsResponse{}, nil
	}
	g := start(t, m, "SPILLWAY_TRACE_RATIO=0")
	if a := g.do(t, "GET", "/v1/shows", nil, "traceparent", "00-"+trace+"-00f067aa0ba902b7-01"); a.status != 200 {
		t.Fatalf("answer %d %s", a.status, a.body)
	}
	eventually(t, "both spans of the call are exported under the client's trace", func() bool {
		return spans.has(trace, "spillway.gateway.v1.GatewayService/ListShows") &&
			spans.has(trace, "spillway.catalog.v1.CatalogService/ListShows")
	})
}
