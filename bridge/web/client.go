package web

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"

	"topicast/bridge"
)

// mostStatus bounds what is read of a status, in bytes: one of 100,000 rules has less.
const mostStatus = 256 << 20

// Fetch asks a bridge that runs on this host for its status, by what its configuration says for
// web.listen. No proxy is asked.
func Fetch(ctx context.Context, listen string) (*bridge.Status, error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+reachable(listen)+"/status", nil)
	if err != nil {
		return nil, fmt.Errorf("ask the bridge at %s for its status: %w", listen, err)
	}
	c := http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	a, err := c.Do(r)
	if err != nil {
		return nil, fmt.Errorf("ask the bridge for its status: %w", err)
	}
	defer a.Body.Close()
	if a.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("ask the bridge for its status: %s answers %s", r.URL, a.Status)
	}
	s := new(bridge.Status)
	if err := json.NewDecoder(io.LimitReader(a.Body, mostStatus)).Decode(s); err != nil {
		return nil, fmt.Errorf("read the status of the bridge from %s: %w", r.URL, err)
	}
	return s, nil
}

// reachable is an address by which a program of this host reaches who listens there: one that is for
// every address has none of its own.
func reachable(listen string) string {
	host, port, err := net.SplitHostPort(listen)
	if err != nil {
		return listen
	}
	if a, err := netip.ParseAddr(host); host == "" || err == nil && a.IsUnspecified() {
		host = "127.0.0.1" // [::] hears it too
	}
	return net.JoinHostPort(host, port)
}
