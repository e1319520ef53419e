package configs

import (
	"errors"
	"fmt"
	"math"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"topicast/configs/syntax"
	"topicast/internal/brokerurl"
	"topicast/mapping"
)

// Size is a number of bytes.
type Size int64

var sizeUnits = []struct {
	name  string
	bytes int64
}{
	{"TiB", 1 << 40}, {"TB", 1e12}, {"GiB", 1 << 30}, {"GB", 1e9}, {"MiB", 1 << 20}, {"MB", 1e6}, {"KiB", 1 << 10}, {"KB", 1e3}, {"B", 1},
}

// String returns the size in the largest unit that gives a whole number.
func (s Size) String() string {
	for _, u := range sizeUnits {
		if s != 0 && int64(s)%u.bytes == 0 {
			return strconv.FormatInt(int64(s)/u.bytes, 10) + u.name
		}
	}
	return "0"
}

// ParseSize reads a number and a unit, such as 64MiB; 0 needs none.
func ParseSize(written string) (Size, error) {
	digits := len(written) - len(strings.TrimLeft(written, "0123456789"))
	unit := strings.TrimSpace(written[digits:])
	n, err := strconv.ParseInt(written[:digits], 10, 64)
	switch {
	case err == nil && unit == "" && n == 0:
		return 0, nil
	case err == nil && unit == "":
		return 0, fmt.Errorf("%s needs a unit, such as 64MiB", written)
	case err == nil:
		for _, u := range sizeUnits {
			if u.name == unit && n <= math.MaxInt64/u.bytes {
				return Size(n * u.bytes), nil
			}
		}
	}
	return 0, withHint("write a whole number and KB, MB, GB, TB (1000) or KiB, MiB, GiB, TiB (1024)",
		fmt.Errorf("%q is not a size, such as 64MiB", written))
}

func parseDuration(written string) (time.Duration, error) {
	d, err := time.ParseDuration(written)
	if _, bare := strconv.ParseFloat(written, 64); bare == nil {
		return 0, fmt.Errorf("%s needs a unit, such as 30s", written)
	}
	if err != nil {
		return 0, withHint("the units are ms, s, m and h", fmt.Errorf("%q is not a duration, such as 30s or 1h30m", written))
	}
	return d, nil
}

// DurationText is 1h, where Go writes 1h0m0s.
func DurationText(d time.Duration) string {
	text := d.String()
	if strings.HasSuffix(text, "m0s") {
		text = strings.TrimSuffix(text, "0s")
	}
	if strings.HasSuffix(text, "h0m") {
		text = strings.TrimSuffix(text, "0m")
	}
	return text
}

// parseInteger reads a whole number, decimal or 0x. It refuses 010, which is
// eight to some readers of YAML and ten to others.
func parseInteger(written string) (int64, error) {
	digits := strings.TrimLeft(written, "+-")
	if len(digits) > 1 && digits[0] == '0' && digits[1] >= '0' && digits[1] <= '9' {
		return 0, withHint("write it without the leading zero", fmt.Errorf("%s may be octal or decimal", written))
	}
	n, err := strconv.ParseInt(written, 0, 64)
	if err != nil {
		return 0, fmt.Errorf("%q is not a whole number", written)
	}
	return n, nil
}

// URLs are the brokers to try, in that order.
type URLs []string

// Shown is the list without what may be secret.
func (u URLs) Shown() string {
	shown := make([]string, len(u))
	for i, address := range u {
		shown[i] = brokerurl.ShownText(address)
	}
	return strings.Join(shown, ", ")
}

// parseURL checks the address of a broker and fills in the port.
func parseURL(written string) (string, error) {
	u, err := brokerurl.Parse(written)
	if e, ok := errors.AsType[*brokerurl.Error](err); ok {
		if e.Hint != "" {
			return "", withHint(e.Hint, e.Err)
		}
		return "", e.Err
	}
	return u.String(), nil
}

// parseSource reads an address of this host, or a prefix that picks one. The
// zero Prefix stands for "".
func parseSource(written string) (netip.Prefix, error) {
	if written == "" {
		return netip.Prefix{}, nil
	}
	return parsePrefix(written)
}

// parsePrefix reads an address, which is the prefix of all its bits, or a prefix.
func parsePrefix(written string) (netip.Prefix, error) {
	if strings.Contains(written, "%") {
		return netip.Prefix{}, withHint("name the interface by the key interface", fmt.Errorf("%q: a source has no zone", written))
	}
	if strings.Contains(written, "/") {
		if prefix, err := netip.ParsePrefix(written); err == nil {
			return prefix, nil
		}
	} else if addr, err := netip.ParseAddr(written); err == nil {
		return netip.PrefixFrom(addr, addr.BitLen()), nil
	}
	err := fmt.Errorf("%q is neither an address nor a prefix", written)
	if at, port := netip.ParseAddrPort(written); port == nil {
		return netip.Prefix{}, withHint(fmt.Sprintf("write %s; a port that datagrams are to leave from is source_port: %d", at.Addr(), at.Port()), err)
	}
	if maybeName(written) {
		return netip.Prefix{}, withHint(fmt.Sprintf("a source is an address, such as 172.17.0.1, or a prefix; if %s is an interface, write interface: %[1]s", written), err)
	}
	return netip.Prefix{}, withHint("such as 172.17.0.1, or 172.17.0.0/16", err)
}

// maybeName reports whether a text may be the name of an interface: it is no address
// with a slip in it.
func maybeName(s string) bool {
	return s != "" && len(s) < 128 && !strings.ContainsAny(s, "/ %") && (s[0]|0x20 >= 'a' && s[0]|0x20 <= 'z') && !(strings.Count(s, ":") > 1)
}

// parseDSCP reads a name, or a number in any way that the file's format has.
func parseDSCP(n *syntax.Node) (uint8, error) {
	written := n.Text
	if n.Kind == syntax.Integer {
		i, err := parseInteger(written)
		if err != nil {
			return 0, err
		}
		written = strconv.FormatInt(i, 10)
	}
	return mapping.ParseDSCP(written)
}

// Protocols are names of protocols, as ALPN has them (RFC 7301).
type Protocols []string

func parseProtocol(written string) (string, error) {
	if n := len(written); n == 0 || n > 255 || strings.ContainsAny(written, ", \t\r\n") {
		return "", withHint("a name such as mqtt or x-amzn-mqtt-ca", fmt.Errorf("%q is not the name of a protocol", written))
	}
	return strings.Clone(written), nil
}

// Hosts are names of a host, as in the Host header of HTTP.
type Hosts []string

// parseHost checks such a name. Its port does not matter.
func parseHost(written string) (string, error) {
	if written == "" || strings.ContainsAny(written, "/:@*? \t") {
		return "", withHint("a name such as topicast.example.com, without scheme, port and path", fmt.Errorf("%q is not the name of a host", written))
	}
	return strings.Clone(strings.TrimSuffix(written, ".")), nil
}

// checkListen checks host:port. Whether this host has the address is found out
// when the page is served.
func checkListen(written string) error {
	if written == "" {
		return nil
	}
	_, port, err := net.SplitHostPort(written)
	if err != nil {
		return withHint("such as 127.0.0.1:9479; :9479 for every address of this host; \"\" for off",
			fmt.Errorf("%q is not a host:port", written))
	}
	if _, err := strconv.ParseUint(port, 10, 16); err != nil {
		return fmt.Errorf("%q: port %q is out of range: 0 to 65535", written, port)
	}
	return nil
}
