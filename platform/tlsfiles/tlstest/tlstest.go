// Package tlstest makes authorities and certificates for tests, in directories as a kubelet makes them of Secrets.
package tlstest

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// Authority signs certificates. Its methods may be called by any goroutine.
type Authority struct {
	certificate *x509.Certificate
	key         *ecdsa.PrivateKey
	change      func(*x509.Certificate)
}

// NewAuthority makes an authority that nobody else trusts.
func NewAuthority(t testing.TB) *Authority {
	t.Helper()
	key := newKey(t)
	template := &x509.Certificate{
		SerialNumber: newSerial(t), Subject: pkix.Name{CommonName: "authority of " + t.Name()},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	return &Authority{certificate: sign(t, template, template, key, key), key: key}
}

// Ended lets certificates have ended.
func Ended(c *x509.Certificate) { c.NotAfter = time.Now().Add(-time.Minute) }

// ServersOnly lets certificates be of no use to callers.
func ServersOnly(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth} }

// With is the same authority, whose certificates are changed before they are signed.
func (a *Authority) With(change func(*x509.Certificate)) *Authority {
	return &Authority{a.certificate, a.key, change}
}

// PEM is the authority's own certificate.
func (a *Authority) PEM() string { return encode("CERTIFICATE", a.certificate.Raw) }

// Pool trusts the authority and nobody else.
func (a *Authority) Pool() *x509.CertPool {
	pool := x509.NewCertPool()
	pool.AddCert(a.certificate)
	return pool
}

// Dir returns a new directory with a certificate of this authority for a service. Trusted, beside it, are those given.
func (a *Authority) Dir(t testing.TB, service string, trusted ...*Authority) string {
	t.Helper()
	dir := t.TempDir()
	for _, name := range []string{"tls.crt", "tls.key", "ca.crt"} {
		if err := os.Symlink(filepath.Join("..data", name), filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	a.Renew(t, dir, service, trusted...)
	return dir
}

// Renew puts a new certificate and key into a directory that Dir has made, all files at once.
func (a *Authority) Renew(t testing.TB, dir, service string, trusted ...*Authority) {
	t.Helper()
	key := newKey(t)
	template := &x509.Certificate{
		SerialNumber: newSerial(t), DNSNames: []string{service},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	if a.change != nil {
		a.change(template)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	trust := a.PEM()
	for _, other := range trusted {
		trust += other.PEM()
	}
	next, err := os.MkdirTemp(dir, "..")
	if err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{
		"tls.crt": encode("CERTIFICATE", sign(t, template, a.certificate, key, a.key).Raw),
		"tls.key": encode("PRIVATE KEY", private),
		"ca.crt":  trust,
	} {
		if err := os.WriteFile(filepath.Join(next, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	link := next + "_link"
	if err := os.Symlink(filepath.Base(next), link); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(link, filepath.Join(dir, "..data")); err != nil {
		t.Fatal(err)
	}
}

// Leaf is the service's certificate in a directory.
func Leaf(t testing.TB, dir string) *x509.Certificate {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(dir, "tls.crt"))
	if err != nil {
		t.Fatal(err)
	}
	block, _ := pem.Decode(text)
	if block == nil {
		t.Fatalf("%s has no certificate", dir)
	}
	leaf, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	return leaf
}

func sign(t testing.TB, template, parent *x509.Certificate, key, by *ecdsa.PrivateKey) *x509.Certificate {
	t.Helper()
	der, err := x509.CreateCertificate(rand.Reader, template, parent, key.Public(), by)
	if err != nil {
		t.Fatal(err)
	}
	c, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func newKey(t testing.TB) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func newSerial(t testing.TB) *big.Int {
	t.Helper()
	serial, err := rand.Int(rand.Reader, big.NewInt(1<<62))
	if err != nil {
		t.Fatal(err)
	}
	return serial.Add(serial, big.NewInt(1)) // it must be positive
}

func encode(kind string, der []byte) string {
	var text strings.Builder
	_ = pem.Encode(&text, &pem.Block{Type: kind, Bytes: der}) // a builder takes everything
	return text.String()
}
