package boot

import (
	"errors"
	"net"
	"net/url"
	"strconv"
	"strings"

	"spillway.dev/platform/identity"
)

// The checks below are for a service's Validate. Each gives nil, or the line
// for the variable that says what is allowed. They look at the form alone:
// what is away is no error of the configuration.

// CheckListen checks an address to listen on: host:port or :port, the port a number.
func CheckListen(variable, value string) error {
	return check(isAddress(value), variable, value, "host:port or :port")
}

// CheckAddr checks an address to connect to: host:port, the port a number and not 0.
func CheckAddr(variable, value string) error {
	return check(isPeer(value), variable, value, "host:port")
}

// CheckTarget checks what Dial takes: host:port or a name in the mesh, xds:///NAME.
func CheckTarget(variable, value string) error {
	name, mesh := strings.CutPrefix(value, "xds:///")
	return check(mesh && identity.Valid(name) || !mesh && isPeer(value), variable, value, "xds:///NAME or host:port")
}

// CheckNATS checks what NATS takes: nats://host:port or tls://host:port, or several of them separated by commas. The line
// leaves out a user and a password.
func CheckNATS(variable, value string) error {
	for server := range strings.SplitSeq(value, ",") {
		u, err := url.Parse(strings.TrimSpace(server))
		if err != nil || u.Scheme != "nats" && u.Scheme != "tls" || !isPeer(u.Host) || strings.Trim(u.Path, "/") != "" {
			if end := strings.LastIndex(value, "@"); end >= 0 {
				value = "..." + value[end:]
			}
			return check(false, variable, value, "nats://host:port")
		}
	}
	return nil
}

// CheckNATSReplicas checks how many servers of NATS keep what is stored: 1, 3 or 5. An even number survives no more losses
// than the odd one below it, and JetStream keeps five at most.
func CheckNATSReplicas(variable string, value int) error {
	return check(value == 1 || value == 3 || value == 5, variable, strconv.Itoa(value), "1, 3 or 5")
}

func check(kept bool, variable, value, allowed string) error {
	if kept {
		return nil
	}
	return errors.New(invalid(variable, value, allowed))
}

// isPeer tells whether s is host:port with both given.
func isPeer(s string) bool {
	host, port, err := net.SplitHostPort(s)
	return err == nil && host != "" && !strings.ContainsAny(host, "/@ ") && port != "0" && isAddress(s)
}
