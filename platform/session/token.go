package session

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"log/slog"
)

// tokenBytes is the entropy of a token: 256 bits, so that guessing one is hopeless whatever the rate.
const tokenBytes = 32

// Token is the secret that proves a session. It prints as a placeholder wherever it is formatted or logged; string(token)
// is the secret itself, for the one response that hands it out.
type Token string

const redacted = "[session token]"

// String hides the token from fmt.
func (Token) String() string { return redacted }

// GoString hides the token from %#v.
func (Token) GoString() string { return redacted }

// LogValue hides the token from slog.
func (Token) LogValue() slog.Value { return slog.StringValue(redacted) }

// MarshalText hides the token from encoders such as encoding/json.
func (Token) MarshalText() ([]byte, error) { return []byte(redacted), nil }

func newToken() Token {
	var secret [tokenBytes]byte
	rand.Read(secret[:]) // never fails: crypto/rand ends the process instead
	return Token(base64.RawURLEncoding.EncodeToString(secret[:]))
}

// hash is what is stored in place of the token. A plain SHA-256 will do: a token has too much entropy for a dictionary.
// ok is false when this store cannot have made the token, so that junk never reaches Redis.
func (t Token) hash() (hash string, ok bool) {
	secret, err := base64.RawURLEncoding.Strict().DecodeString(string(t))
	if err != nil || len(secret) != tokenBytes {
		return "", false
	}
	sum := sha256.Sum256([]byte(t))
	return hex.EncodeToString(sum[:]), true
}
