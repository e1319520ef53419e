package web

import (
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"os"
	"slices"
	"strings"
)

// A page of a stranger, in the browser of somebody who can reach this host, may read what
// has the page's own name. So it gives its name the address of this host meanwhile (DNS
// rebinding). It cannot take a name that nobody can register.

// unregistered are the top-level domains that are nobody's (RFC 6761, RFC 6762, RFC 8375,
// and those that ICANN keeps from being delegated), and svc, which Kubernetes leaves out the
// rest of.
var unregistered = []string{"localhost", "local", "localdomain", "internal", "lan", "home", "corp", "intranet", "private", "arpa", "test", "svc"}

// anyName is what programs may ask for that are no browsers, under any name.
var anyName = []string{"/metrics", "/healthz", "/readyz"}

// checkHost keeps what the rules say, which the page and /status have, from whoever asks under a name
// that this host may not have. The rest is kept from browsers only: programs that are none run
// no pages of strangers, and Prometheus and health checks may use any name.
func checkHost(names []string, next http.Handler) http.Handler {
	if own, err := os.Hostname(); err == nil {
		names = append(slices.Clone(names), own)
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		guarded := !slices.Contains(anyName, r.URL.Path) || ofBrowser(r)
		if name := nameIn(r.Host); guarded && !ours(name, names) {
			http.Error(w, fmt.Sprintf("this is not served under the name %q: add it to web.hosts in the configuration of topicast, or use the address", name), http.StatusMisdirectedRequest)
			return
		}
		next.ServeHTTP(w, r)
	})
}

// ofBrowser reports whether a browser asks: each says what language it wants, and a page
// cannot keep it from that (https://fetch.spec.whatwg.org/, HTTP-network-or-cache fetch).
func ofBrowser(r *http.Request) bool {
	_, says := r.Header["Accept-Language"]
	return says || strings.HasPrefix(r.UserAgent(), "Mozilla/")
}

// nameIn is a Host header without its port, and without the dot of the root. An address of IPv6 is in
// brackets, all of it.
func nameIn(host string) string {
	if name, _, err := net.SplitHostPort(host); err == nil {
		return strings.TrimSuffix(name, ".")
	}
	if inner, cut := strings.CutPrefix(host, "["); cut && strings.HasSuffix(inner, "]") {
		return inner[:len(inner)-1]
	}
	return strings.TrimSuffix(host, ".")
}

// ours reports whether a name cannot be a stranger's: it is an address, is one of names, or
// cannot be registered. One without a dot is looked up in the domains of the network.
func ours(name string, names []string) bool {
	if a, err := netip.ParseAddr(name); err == nil { // whose zone may be anything but the end of a bracket
		return !strings.Contains(a.Zone(), "]")
	}
	dot := strings.LastIndexByte(name, '.')
	return dot < 0 || slices.Contains(unregistered, strings.ToLower(name[dot+1:])) ||
		slices.ContainsFunc(names, func(n string) bool { return strings.EqualFold(n, name) })
}
