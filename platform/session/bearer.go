package session

import (
	"context"
	"strings"

	"google.golang.org/grpc/metadata"
)

// Bearer gives the session token that a call came with, as metadata authorization: Bearer; "" when it has none. Two
// different ones are as good as none: which of them counts would depend on who asks.
func Bearer(ctx context.Context) Token {
	token := ""
	for _, v := range metadata.ValueFromIncomingContext(ctx, "authorization") {
		scheme, t, ok := strings.Cut(v, " ")
		if !ok || !strings.EqualFold(scheme, "Bearer") {
			continue
		}
		if t = strings.TrimSpace(t); token != "" && t != token {
			return ""
		}
		token = t
	}
	return Token(token)
}
