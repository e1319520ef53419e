package web

import "testing"

func TestAPageForEveryAddressIsAskedForByTheLoopback(t *testing.T) {
	for listen, want := range map[string]string{
		":9479":             "127.0.0.1:9479",
		"0.0.0.0:9479":      "127.0.0.1:9479",
		"[::]:9479":         "127.0.0.1:9479",
		"192.0.2.1:80":      "192.0.2.1:80",
		"gateway.local:443": "gateway.local:443",
		"[2001:db8::1]:80":  "[2001:db8::1]:80",
	} {
		if got := reachable(listen); got != want {
			t.Errorf("%s is asked for at %s, want %s", listen, got, want)
		}
	}
}
