package tlsfiles

import (
	"context"
	"crypto/tls"
	"errors"
	"net"

	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
)

// Client returns the credentials of connections to callee: this service shows its own certificate, and the other end must
// show one with the DNS name callee, whatever address was dialled.
func (f *Files) Client(callee string) credentials.TransportCredentials {
	return client{f, callee}
}

// Server returns the credentials of the service's own server: who connects must show a certificate of an authority that is
// trusted. With edge, connections come from outside the mesh: a certificate is asked for and need not come, and who does not
// begin with TLS is served in plaintext. Connections from within the process (bufconn) never are encrypted.
func (f *Files) Server(edge bool) credentials.TransportCredentials {
	return server{f, edge}
}

func (m *material) config() *tls.Config {
	return &tls.Config{
		Certificates: []tls.Certificate{m.pair},
		RootCAs:      m.roots,
		ClientCAs:    m.roots,
		MinVersion:   tls.VersionTLS13,
		// A connection that was made with an old certificate is not to be resumed with it.
		SessionTicketsDisabled: true,
	}
}

// errFixed answers gRPC's deprecated way to set the name that a server's certificate must have.
var errFixed = errors.New("tlsfiles: the server's name is the callee's; give it to Client")

type client struct {
	files  *Files
	callee string
}

func (c client) ClientHandshake(ctx context.Context, _ string, conn net.Conn) (net.Conn, credentials.AuthInfo, error) {
	return credentials.NewTLS(c.files.now.Load().config()).ClientHandshake(ctx, c.callee, conn)
}

func (c client) ServerHandshake(net.Conn) (net.Conn, credentials.AuthInfo, error) {
	return nil, nil, errors.New("tlsfiles: these are a client's credentials; a server takes those of Server")
}

func (c client) Info() credentials.ProtocolInfo {
	return credentials.ProtocolInfo{SecurityProtocol: "tls"}
}

func (c client) Clone() credentials.TransportCredentials { return c }

func (client) OverrideServerName(string) error { return errFixed }

type server struct {
	files *Files
	edge  bool
}

func (s server) ClientHandshake(context.Context, string, net.Conn) (net.Conn, credentials.AuthInfo, error) {
	return nil, nil, errors.New("tlsfiles: these are a server's credentials; a client takes those of Client")
}

// recordHandshake is the first byte of a connection that begins with TLS (RFC 8446, section 5.1); HTTP/2 in plaintext
// begins with "PRI".
const recordHandshake = 22

func (s server) ServerHandshake(conn net.Conn) (net.Conn, credentials.AuthInfo, error) {
	if conn.LocalAddr().Network() == "bufconn" {
		return insecure.NewCredentials().ServerHandshake(conn)
	}
	config := s.files.now.Load().config()
	config.ClientAuth = tls.RequireAndVerifyClientCert
	if s.edge {
		var first [1]byte
		if _, err := conn.Read(first[:]); err != nil { // gRPC has set the connection's deadline
			return nil, nil, err
		}
		conn = &begun{Conn: conn, first: first[:]}
		if first[0] != recordHandshake {
			return insecure.NewCredentials().ServerHandshake(conn)
		}
		config.ClientAuth = tls.VerifyClientCertIfGiven
	}
	return credentials.NewTLS(config).ServerHandshake(conn)
}

func (server) Info() credentials.ProtocolInfo {
	return credentials.ProtocolInfo{SecurityProtocol: "tls"}
}

func (s server) Clone() credentials.TransportCredentials { return s }

func (server) OverrideServerName(string) error { return errFixed }

// begun is a connection of which the first bytes have been read already. It is read by one goroutine at a time.
type begun struct {
	net.Conn
	first []byte
}

func (b *begun) Read(p []byte) (int, error) {
	if len(b.first) == 0 {
		return b.Conn.Read(p)
	}
	n := copy(p, b.first)
	b.first = b.first[n:]
	return n, nil
}
