// Package tlsfiles is a service's certificate for mutual TLS, kept in files that somebody else renews.
//
// A directory holds tls.crt (the certificate and what leads from it to the authority), tls.key (its private key) and
// ca.crt (the authorities that are trusted), as the Secret of a cert-manager Certificate does. Each new connection uses
// the files as they were last read; connections that are open stay as they are.
//
// A service is who its certificate says it is: the DNS name in it is the service's name in the mesh. Callers ask for the
// callee's name whatever address they dial, and callees want a certificate of their callers (see identity for what
// becomes of its name).
package tlsfiles

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// names are the files of a directory, in the order in which they are read.
var names = [...]string{"tls.crt", "tls.key", "ca.crt"}

// Files are the certificate, key and authorities of one service. Its methods may be called by any goroutine.
type Files struct {
	dir, name string
	log       *slog.Logger
	now       atomic.Pointer[material]
	expiry    prometheus.Gauge
}

// material is what the files held at one time. It does not change.
type material struct {
	read  contents
	pair  tls.Certificate
	roots *x509.CertPool
}

// Open reads the files in dir, which must hold a certificate for the service of that name that can be used now. When that
// certificate ends is told as spillway_tls_certificate_expiry_timestamp_seconds.
func Open(dir, name string, reg prometheus.Registerer, log *slog.Logger) (*Files, error) {
	f := &Files{dir: dir, name: name, log: log, expiry: prometheus.NewGauge(prometheus.GaugeOpts{
		Name: "spillway_tls_certificate_expiry_timestamp_seconds",
		Help: "When the certificate in use ends, in seconds since 1970.",
	})}
	if _, err := f.reload(); err != nil {
		return nil, err
	}
	if err := reg.Register(f.expiry); err != nil {
		return nil, fmt.Errorf("tlsfiles: %w", err)
	}
	return f, nil
}

// Watch looks at the files again and again, at the given interval, until ctx ends. What cannot be used is logged, and what
// was read before stays in use.
func (f *Files) Watch(ctx context.Context, every time.Duration) {
	tick := time.NewTicker(every)
	defer tick.Stop()
	told := ""
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		renewed, err := f.reload()
		switch {
		case err == nil && renewed:
			f.log.Info("certificate renewed", "ends", f.now.Load().pair.Leaf.NotAfter)
		case err != nil && err.Error() != told: // the same again would drown the log
			f.log.Warn("the renewed certificate cannot be used, going on with the one before", "error", err,
				"ends", f.now.Load().pair.Leaf.NotAfter)
		}
		told = ""
		if err != nil {
			told = err.Error()
		}
	}
}

// contents are the files' bytes, in the order of names.
type contents [len(names)][]byte

func (c contents) equal(other contents) bool {
	for i := range c {
		if !bytes.Equal(c[i], other[i]) {
			return false
		}
	}
	return true
}

// reload takes what the files hold into use if it can be used, and tells whether it is new.
func (f *Files) reload() (renewed bool, err error) {
	read, err := f.read()
	if err != nil {
		return false, err
	}
	if before := f.now.Load(); before != nil && read.equal(before.read) {
		return false, nil
	}
	// What is read while the files are exchanged is half old and half new: it counts once it is read twice.
	for settled := false; !settled; {
		again, err := f.read()
		if err != nil {
			return false, err
		}
		settled, read = read.equal(again), again
	}
	next := &material{read: read}
	if err := f.parse(next); err != nil {
		return false, err
	}
	f.now.Store(next)
	f.expiry.Set(float64(next.pair.Leaf.NotAfter.Unix()))
	return true, nil
}

func (f *Files) read() (read contents, err error) {
	for i, name := range names {
		if read[i], err = os.ReadFile(filepath.Join(f.dir, name)); err != nil {
			return read, fmt.Errorf("%w: the directory must hold tls.crt, tls.key and ca.crt, as a Secret of cert-manager does", err)
		}
	}
	return read, nil
}

// parse makes certificate and authorities of what was read. A peer would refuse what is refused here, only later and
// without naming a file.
func (f *Files) parse(m *material) (err error) {
	certificate, authorities := filepath.Join(f.dir, names[0]), filepath.Join(f.dir, names[2])
	if m.pair, err = tls.X509KeyPair(m.read[0], m.read[1]); err != nil {
		return fmt.Errorf("%s with %s: %w: give a certificate and its own private key, both as PEM", certificate, names[1], err)
	}
	m.roots = x509.NewCertPool()
	if !m.roots.AppendCertsFromPEM(m.read[2]) {
		return fmt.Errorf("%s: it has no certificate: give those of the authorities that sign the services' certificates, as PEM", authorities)
	}
	between := x509.NewCertPool()
	for _, der := range m.pair.Certificate[1:] {
		c, err := x509.ParseCertificate(der)
		if err != nil {
			return fmt.Errorf("%s: a certificate after the first: %w", certificate, err)
		}
		between.AddCert(c)
	}
	// One certificate for both: a service is callee and caller.
	for _, usage := range []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth} {
		_, err := m.pair.Leaf.Verify(x509.VerifyOptions{
			DNSName: f.name, Roots: m.roots, Intermediates: between, KeyUsages: []x509.ExtKeyUsage{usage},
		})
		if err != nil {
			return fmt.Errorf("%s: %w: %s", certificate, err, f.remedy(err))
		}
	}
	return nil
}

// remedy says what to do about a certificate that does not verify.
func (f *Files) remedy(err error) string {
	if _, ok := errors.AsType[x509.HostnameError](err); ok {
		return fmt.Sprintf("give a certificate with the DNS name %q", f.name)
	}
	if _, ok := errors.AsType[x509.UnknownAuthorityError](err); ok {
		return "give a certificate that an authority in ca.crt has signed"
	}
	if invalid, ok := errors.AsType[x509.CertificateInvalidError](err); ok {
		switch invalid.Reason {
		case x509.Expired:
			return "renew it, and compare this machine's clock"
		case x509.IncompatibleUsage:
			return "give a certificate with the usages server auth and client auth"
		}
	}
	return "give one that its peers can verify"
}
