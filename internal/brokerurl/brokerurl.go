// Package brokerurl reads the address of a broker, and shows it without what may be secret.
package brokerurl

import (
	"errors"
	"fmt"
	"net"
	"net/url"
	"strconv"
	"strings"
)

// defaultPorts are those that IANA gave to the protocols, and HTTP's for
// WebSocket (RFC 6455 section 3).
var defaultPorts = map[string]string{"mqtt": "1883", "mqtts": "8883", "ws": "80", "wss": "443"}

// unixScheme is that of a socket in the file system, unix:///path.
const unixScheme = "unix"

// services are what the schemes of names with SRV records are called in these (IANA): the host and
// the port are there.
var services = map[string]string{"mqtt+srv": "mqtt", "mqtts+srv": "secure-mqtt"}

// otherSchemes are what other programs call them.
var otherSchemes = map[string]string{
	"tcp": "mqtt", "mqtt+tcp": "mqtt",
	"ssl": "mqtts", "tls": "mqtts", "mqtt+ssl": "mqtts", "mqtt+tls": "mqtts",
	"http": "ws", "https": "wss", "mqtt+unix": unixScheme,
}

// maxUnixPath is what fits into a socket's address beside the NUL at its end, unix(7).
const maxUnixPath = 107

// Error says what is wrong with an address, and what to do about it. It shows nothing
// that may be secret.
type Error struct {
	Err  error
	Hint string // "": what says it
}

func (e *Error) Error() string { return e.Err.Error() }
func (e *Error) Unwrap() error { return e.Err }

// Secure reports whether an address is that of a port with TLS.
func Secure(u *url.URL) bool {
	return u.Scheme == "mqtts" || u.Scheme == "wss" || u.Scheme == "mqtts+srv"
}

// Service is the service whose SRV records (RFC 2782) say where the brokers of a name are; "" where
// the address itself says it.
func Service(u *url.URL) string { return services[u.Scheme] }

// Unix reports whether an address is that of a socket in the file system, its Path.
func Unix(u *url.URL) bool { return u.Scheme == unixScheme }

// WebSocket reports whether an address is that of a port for WebSocket.
func WebSocket(u *url.URL) bool { return u.Scheme == "ws" || u.Scheme == "wss" }

// Shown is an address for logs, errors and pages: the values in its query may be
// tokens.
func Shown(u *url.URL) string { return ShownText(u.String()) }

// ShownText is Shown for what may be no address.
func ShownText(written string) string {
	before, query, ok := strings.Cut(written, "?")
	if !ok {
		return written
	}
	return before + "?" + masked(query)
}

// masked is a query without its values.
func masked(query string) string {
	var b strings.Builder
	for part := range strings.SplitSeq(query, "&") {
		if b.Len() > 0 {
			b.WriteByte('&')
		}
		name, _, named := strings.Cut(part, "=")
		if named {
			b.WriteString(name + "=")
		}
		b.WriteString("…")
	}
	return b.String()
}

// Parse reads the address of a broker, mqtt://, mqtts://, ws:// or wss://, and fills in
// the port, or unix:///path, or mqtt+srv:// or mqtts+srv:// and a name. An error is an *Error.
func Parse(written string) (*url.URL, error) {
	scheme, rest, ok := strings.Cut(written, "://")
	shown := ShownText(written)
	fault := func(hint, format string, args ...any) (*url.URL, error) {
		return nil, &Error{fmt.Errorf(format, args...), hint}
	}
	switch {
	case written == "":
		return fault("such as mqtt://127.0.0.1:1883", "a url is empty")
	case strings.Contains(written, "@"): // wherever: a password may hold a slash
		return fault("use broker.username and broker.password_file; in a path, write %40",
			"a url may not hold an @, since it is shown in the log and must hold no password")
	case !ok && oneSlash(written) != "":
		return fault("write "+ShownText(oneSlash(written)), "%q has one slash behind the scheme", shown)
	case !ok:
		return fault("write mqtt://"+shown, "%q has no scheme", shown)
	case strings.Contains(written, "#"):
		return fault("", "%q: a # part has no meaning here", shown)
	case scheme == unixScheme && (!strings.HasPrefix(rest, "/") || strings.HasSuffix(rest, "/") || strings.ContainsAny(rest, "?%")):
		return fault("such as unix:///run/mosquitto/mqtt.sock", "%q: unix:// is followed by the absolute path of a socket", shown)
	case scheme == unixScheme && len(rest) > maxUnixPath:
		return fault("give the socket a shorter one", "%q: a path of %d bytes; a socket may have %d (unix(7))", shown, len(rest), maxUnixPath)
	case scheme == unixScheme:
		return &url.URL{Scheme: unixScheme, Path: rest}, nil
	case services[scheme] != "" && (rest == "" || strings.ContainsAny(rest, ":/?%[]")):
		return fault("such as "+scheme+"://example.com", "%q: %s:// is followed by a name, whose SRV records say the rest", shown, scheme)
	case services[scheme] != "":
		return &url.URL{Scheme: scheme, Host: rest}, nil
	case defaultPorts[scheme] == "":
		hint := ""
		if meant := otherSchemes[strings.ToLower(scheme)]; meant != "" {
			hint = "write " + meant + "://" + ShownText(rest)
		}
		return fault(hint, "%q: the scheme %q is none of mqtt, mqtts, ws, wss, unix, mqtt+srv, mqtts+srv", shown, scheme)
	}
	u, err := url.Parse(written)
	if err != nil {
		if e, ok := errors.AsType[*url.Error](err); ok {
			err = e.Err // the outer one repeats the address
		}
		return fault("", "%q: %w", shown, err)
	}
	if err := check(u); err != nil {
		return fault("", "%q: %w", shown, err)
	}
	if u.Port() == "" {
		u.Host = net.JoinHostPort(u.Hostname(), defaultPorts[scheme])
	}
	return u, nil
}

// oneSlash is an address with the slash that it lacks; "" if it lacks none.
func oneSlash(written string) string {
	scheme, rest, ok := strings.Cut(written, ":/")
	if !ok || defaultPorts[scheme] == "" {
		return ""
	}
	return scheme + "://" + rest
}

func check(u *url.URL) error {
	if u.Hostname() == "" {
		return errors.New("the host is missing")
	}
	if strings.Count(u.Host, ":") > 1 && u.Host[0] != '[' {
		return errors.New("an IPv6 address must be in brackets")
	}
	if port := u.Port(); port != "" {
		if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
			return fmt.Errorf("port %s is out of range: 1 to 65535", port)
		}
	}
	if !WebSocket(u) {
		if strings.Trim(u.Path, "/") != "" || u.RawQuery != "" {
			return errors.New("only ws and wss have a path")
		}
		u.Path = ""
	}
	return nil
}
