package main

import (
	"context"
	"net/http"

	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	gatewayv1 "spillway.dev/proto/gen/spillway/gateway/v1"
)

// cookieName is the cookie that carries the session's token in a browser.
const cookieName = "spillway_session"

// cookies translates between the session cookie and the authorization metadata that the RPCs know.
type cookies struct{ secure bool }

// metadata gives the authorization of a request that came with a cookie. A header the client wrote itself comes first:
// it says what it means, a cookie is sent by habit.
func (cookies) metadata(_ context.Context, r *http.Request) metadata.MD {
	if r.Header.Get("Authorization") != "" {
		return nil
	}
	md := metadata.MD{}
	for _, c := range r.CookiesNamed(cookieName) {
		if c.Value != "" {
			md.Append("authorization", "Bearer "+c.Value)
		}
	}
	return md
}

// set puts the cookie on answers that open a session and takes it off on the one that ends it. The token stays in the
// body too: clients without a cookie jar need it there.
func (c cookies) set(_ context.Context, w http.ResponseWriter, resp proto.Message) error {
	switch resp := resp.(type) {
	case *gatewayv1.SignInResponse:
		http.SetCookie(w, c.cookie(resp.GetToken(), resp.GetExpiresAt()))
	case *gatewayv1.RefreshSessionResponse:
		http.SetCookie(w, c.cookie(resp.GetToken(), resp.GetExpiresAt()))
	case *gatewayv1.SignOutResponse:
		gone := c.cookie("", nil)
		gone.MaxAge = -1
		http.SetCookie(w, gone)
	}
	return nil
}

func (c cookies) cookie(token string, expires *timestamppb.Timestamp) *http.Cookie {
	cookie := &http.Cookie{
		Name:     cookieName,
		Value:    token,
		Path:     "/",
		HttpOnly: true,
		Secure:   c.secure,
		SameSite: http.SameSiteLaxMode,
	}
	if expires != nil {
		cookie.Expires = expires.AsTime()
	}
	return cookie
}
