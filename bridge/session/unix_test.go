//go:build unix

package session

import (
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestMosquittoIsReachedBySocket(t *testing.T) {
	path := filepath.Join(t.TempDir(), "mqtt.sock")
	newMosquitto(t, "listener PORT 127.0.0.1\nlistener 0 "+path+"\nallow_anonymous true\n")
	c := start(t, Options{URLs: []string{"unix://" + path}, ClientID: "socket", Subscriptions: []Subscription{{Filter: "t", QoS: 1}},
		Proxy: &Proxy{}, Bind: "nosuch0"}) // neither applies
	c.reached("subscribed", func(s State) bool { return s.Connected && s.Active == 1 })
	for range 100 {
		if err := c.Publish(t.Context(), "t", []byte(strings.Repeat("x", 10_000)), 1, false); err != nil {
			t.Fatal(err)
		}
	}
	c.messages(100)
	c.stop()
}

func TestWhatIsWrongWithASocketIsNamed(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	left := filepath.Join(dir, "left")
	ln, err := net.Listen("unix", left)
	if err != nil {
		t.Fatal(err)
	}
	ln.(*net.UnixListener).SetUnlinkOnClose(false)
	ln.Close()
	silent := filepath.Join(dir, "silent")
	if ln, err = net.Listen("unix", silent); err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	go func() {
		for {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			hears(conn)
			conn.Close()
		}
	}()
	for path, want := range map[string]string{
		filepath.Join(dir, "none"): "no such file or directory; there is no such socket: check that the broker runs",
		left:                       "connection refused; nothing listens there: the broker has ended",
		file:                       "connection refused; nothing listens there",
		silent:                     "check the path in broker.url",
	} {
		c := start(t, Options{URLs: []string{"unix://" + path}})
		if text := c.reached("failed", func(s State) bool { return s.LastErr != "" }).LastErr; !strings.Contains(text, want) || !strings.HasPrefix(text, "unix://"+path+": ") {
			t.Errorf("%s; want %s", text, want)
		}
		c.stop()
	}
}
