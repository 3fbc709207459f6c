package main

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"strings"

	"google.golang.org/grpc/metadata"
)

// affinityHeader is the metadata by whose value the mesh picks the session replica of a call, where it balances by ring
// hash. From outside it is dropped (edge.go), over HTTP it is not let in (http.go).
const affinityHeader = "x-spillway-affinity"

// affinityBytes makes keys that are spread evenly over any number of replicas. It need not be hard to guess: a key proves
// nothing, and whoever makes one up finds no session behind it.
const affinityBytes = 8

// affinity has the sessions of people stick to replicas, as those need that keep them in memory: each token that is handed
// out begins with a key, and the calls for that session carry it. The zero value leaves tokens alone.
type affinity struct{ on bool }

// split takes the key off a token. A token without one, from before affinity was on, has key "".
func (a affinity) split(token string) (key, rest string) {
	if !a.on {
		return "", token
	}
	key, rest, found := strings.Cut(token, ".")
	if !found || len(key) != hex.EncodedLen(affinityBytes) || strings.Trim(key, "0123456789abcdef") != "" {
		return "", token
	}
	return key, rest
}

// begin gives the key under which a person signs in. A session that is to end with the sign-in is where its key leads, so
// that the new one must go there too.
func (a affinity) begin(previous string) string {
	if previous != "" || !a.on {
		return previous
	}
	var key [affinityBytes]byte
	rand.Read(key[:]) // never fails: crypto/rand ends the process instead
	return hex.EncodeToString(key[:])
}

// join is the token as people get it.
func (affinity) join(key, token string) string {
	if key == "" {
		return token
	}
	return key + "." + token
}

// toward returns a context whose calls to the session service go to the replica that the key stands for.
func toward(ctx context.Context, key string) context.Context {
	if key == "" {
		return ctx
	}
	return metadata.AppendToOutgoingContext(ctx, affinityHeader, key)
}
