//go:build linux

package main

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// What anybody can do who reaches the web page.
var webAttacks = []attack{
	{name: "web-connections", about: "1,012 connections to the page, with 1,024 descriptors; the broker's is lost meanwhile", prepare: thousandFiles, run: webConnections},
	{name: "web-headers", about: "500 connections whose request comes byte by byte", run: webHeaders},
	{name: "web-slow-readers", about: "50 slow readers of /status", run: slowReaders("/status")},
	{name: "web-slow-metrics", about: "50 slow readers of /metrics", run: slowReaders("/metrics")},
	{name: "web-sockets", about: "100 clients that ask for a WebSocket, send frames and read nothing", run: webSockets},
	{name: "web-storm", about: "/status, by 20 clients over and over", run: statusStorm},
	{name: "web-streams", about: "50 pages that are live, each with a question of its own, and 50 live feeds, that read slowly", run: streams},
	{name: "web-rebinding", about: "requests with the Host of another site (DNS rebinding)", run: rebinding},
}

func thousandFiles(r *rig) {
	meddled(r)
	r.setup.files = 1024
}

// dialWeb connects with the page.
func (r *rig) dialWeb() (net.Conn, error) {
	r.spend(cost{Connections: 1})
	return r.GW.Dial(r.ctx, "tcp", webAddress)
}

// webConnections opens so many, and then has the bridge need descriptors of its own.
func webConnections(r *rig) {
	var all []net.Conn
	defer func() {
		for _, c := range all {
			c.Close()
		}
	}()
	for range 1012 {
		c, err := r.dialWeb()
		if err != nil {
			break // refused, as it may be
		}
		all = append(all, c)
		_, _ = io.WriteString(c, "GET /status HTTP/1.1\r\nHost: localhost\r\n")
	}
	r.meddler.cutAll()
	r.pause(r.times.attack)
	late := time.Now()
	r.pause(prompt)
	for name, s := range r.streams {
		if !s.runsSince(late) {
			r.fail("%s did not come again while the connections were there", name)
		}
	}
}

func webHeaders(r *rig) {
	r.each(500, func(c net.Conn) {
		for i := 0; r.ctx.Err() == nil; i++ {
			text := "GET /status HTTP/1.1\r\nHost: localhost\r\nX-Slow: " + strings.Repeat("x", i)
			if _, err := c.Write([]byte{text[min(i, len(text)-1)]}); err != nil {
				return
			}
			r.spend(cost{Bytes: 1})
			r.pause(100 * time.Millisecond)
		}
	})
}

// each has so many connections do something at a time, until the attack is over.
func (r *rig) each(n int, do func(net.Conn)) {
	var all sync.WaitGroup
	var mu sync.Mutex
	var open []net.Conn
	for range n {
		c, err := r.dialWeb()
		if err != nil {
			continue
		}
		mu.Lock()
		open = append(open, c)
		mu.Unlock()
		all.Go(func() { do(c) })
	}
	r.last()
	for _, c := range open {
		c.Close()
	}
	all.Wait()
}

// slowReaders ask for a page and read a few bytes a second of it.
func slowReaders(path string) func(*rig) {
	return func(r *rig) {
		r.each(50, func(c net.Conn) {
			r.spend(cost{Requests: 1})
			_, _ = fmt.Fprintf(c, "GET %s HTTP/1.1\r\nHost: %s\r\n\r\n", path, webAddress)
			for buf := make([]byte, 512); r.ctx.Err() == nil; r.pause(50 * time.Millisecond) {
				if _, err := c.Read(buf); err != nil {
					return
				}
			}
		})
	}
}

// webSockets ask for what the page does not have, and go on as if they had it.
func webSockets(r *rig) {
	frame := append([]byte("\x82\xfe\x10\x00mask"), make([]byte, 4096)...) // RFC 6455, 5.2
	r.each(100, func(c net.Conn) {
		r.spend(cost{Requests: 1})
		_, err := fmt.Fprintf(c, "GET /status HTTP/1.1\r\nHost: %s\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"+
			"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n", webAddress)
		for ; err == nil && r.ctx.Err() == nil; r.pause(20 * time.Millisecond) {
			var n int
			n, err = c.Write(frame)
			r.spend(cost{Bytes: n})
		}
	})
}

// streams keep open what has no end.
func streams(r *rig) {
	var n atomic.Int64
	r.each(100, func(c net.Conn) {
		r.spend(cost{Requests: 1})
		i := n.Add(1)
		path := fmt.Sprintf("/events?sort=trouble&limit=%d", 1000-i)
		if i%2 == 0 {
			path = "/feed"
		}
		_, _ = fmt.Fprintf(c, "GET %s HTTP/1.1\r\nHost: %s\r\n\r\n", path, webAddress)
		for buf := make([]byte, 512); r.ctx.Err() == nil; r.pause(50 * time.Millisecond) {
			if _, err := c.Read(buf); err != nil {
				return
			}
		}
	})
}

func statusStorm(r *rig) {
	r.each(20, func(c net.Conn) {
		in := bufio.NewReader(c)
		for r.ctx.Err() == nil {
			r.spend(cost{Requests: 1})
			if _, err := fmt.Fprintf(c, "GET /status HTTP/1.0\r\nHost: %s\r\n\r\n", webAddress); err != nil {
				return
			}
			if _, err := io.Copy(io.Discard, in); err != nil {
				return
			}
			c.Close()
			var err error
			if c, err = r.dialWeb(); err != nil {
				return
			}
			defer c.Close()
			_ = c.SetDeadline(r.began.Add(r.times.attack))
			in.Reset(c)
		}
	})
}

// rebinding asks as a browser does that was led here by another site's name.
func rebinding(r *rig) {
	for _, host := range []string{"evil.example", "evil.example:9479", "127.0.0.1.evil.example", "localhost.evil.example:9479"} {
		for _, path := range []string{"/status", "/metrics", "/", "/events", "/feed", "/rule"} {
			c, err := r.dialWeb()
			if err != nil {
				r.must(err)
				continue
			}
			r.spend(cost{Requests: 1})
			_, _ = fmt.Fprintf(c, "GET %s HTTP/1.0\r\nHost: %s\r\nUser-Agent: Mozilla/5.0\r\nAccept-Language: en\r\n\r\n", path, host)
			line, _ := bufio.NewReader(c).ReadString('\n')
			c.Close()
			if strings.Contains(line, " 200 ") {
				r.fail("GET %s with Host: %s is answered: %s", path, host, strings.TrimSpace(line))
			}
		}
	}
	for _, host := range []string{webAddress, "localhost:9479", "localhost"} {
		if c, err := r.dialWeb(); err == nil {
			_, _ = fmt.Fprintf(c, "GET /status?limit=1 HTTP/1.0\r\nHost: %s\r\n\r\n", host)
			line, _ := bufio.NewReader(c).ReadString('\n')
			c.Close()
			if !strings.Contains(line, " 200 ") {
				r.fail("GET /status with Host: %s is refused: %s", host, strings.TrimSpace(line))
			}
		}
	}
	r.last()
}
