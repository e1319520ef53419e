//go:build linux

package main

import (
	"bytes"
	"io"
	"net"
	"time"

	"topicast/internal/lab/harness"
)

// What whoever sits on the line to the broker can do, below MQTT. All streams go by it.
var lineAttacks = []attack{
	{name: "line-half-frame", about: "half a PUBLISH, and nothing more", victims: allStreams, prepare: meddled, run: halfFrame},
	{name: "line-slow-frame", about: "a PUBLISH of 60,000 bytes, byte by byte", victims: allStreams, prepare: meddled, run: slowFrame},
	{name: "line-huge-frame", about: "PUBLISH frames of 256 MB, as fast as it goes", victims: allStreams, prepare: meddled, run: hugeFrame},
	{name: "line-garbage", about: "random bytes in place of a broker", victims: allStreams, prepare: meddled, run: instead(garbage)},
	{name: "line-mute", about: "connections that are accepted, and never answered", victims: allStreams, prepare: meddled, run: instead(mute)},
	{name: "line-tls", about: "TLS that fails in another way each time: alerts, plain text, other certificates, an end right after the handshake", victims: allStreams, prepare: overTLS, run: failingTLS},
	{name: "line-headers", about: "headers without end in answer to a WebSocket's request", victims: allStreams, prepare: webSocket, run: instead(endlessHeaders)},
	{name: "line-header-long", about: "one header line without end", victims: allStreams, prepare: webSocket, run: instead(endlessHeader)},
	{name: "line-websocket-frames", about: "a WebSocket whose frames are of 2⁶² bytes", victims: allStreams, prepare: webSocket, run: instead(endlessWebSocket)},
}

// halfFrame writes the beginning of a message that claims to be longer.
func halfFrame(r *rig) {
	r.spend(cost{Packets: 1, Bytes: 10})
	r.must(r.meddler.inject([]byte("\x32\xff\x7f\x00\x03v/hxx")))
	r.pause(r.times.attack)
	r.meddler.cutAll()
}

func slowFrame(r *rig) {
	frame := r.publishFrame("v/slow", 0, 0, make([]byte, 60000))
	r.spend(cost{Packets: 1})
	r.pace(1000, 0, func(i int) error {
		r.spend(cost{Bytes: 1})
		_ = r.meddler.inject(frame[i%len(frame):][:1]) // the bridge may end it
		return nil
	})
	r.meddler.cutAll()
}

// hugeFrame writes messages of the greatest length there is, for as long as it is let.
func hugeFrame(r *rig) {
	head := []byte("\x30\xff\xff\xff\x7f\x00\x06v/huge")
	block := make([]byte, 1<<20)
	r.pace(100, 0, func(i int) error {
		b := block
		if i%256 == 0 {
			b = append(bytes.Clone(head), block[:len(block)-len(head)]...)
		}
		r.spend(cost{Bytes: len(b)})
		_ = r.meddler.inject(b) // the bridge may end it
		return nil
	})
	r.spend(cost{Packets: 1})
	r.meddler.cutAll()
}

// instead has the bridge meet something else in place of the broker.
func instead(of func(*rig, net.Conn)) func(*rig) {
	return func(r *rig) {
		r.meddler.receiveBy(func(c net.Conn) {
			r.spend(cost{Connections: 1})
			of(r, c)
		})
		r.pause(r.times.attack)
		r.meddler.receiveBy(nil)
	}
}

func mute(_ *rig, c net.Conn) { _, _ = io.Copy(io.Discard, c) }

// pour writes a block again and again, as long as it is taken, up to 8 GB.
func (r *rig) pour(c net.Conn, block []byte) {
	for range int64(8<<30) / int64(len(block)) {
		n, err := c.Write(block)
		r.spend(cost{Bytes: n})
		if err != nil || r.ctx.Err() != nil {
			return
		}
	}
}

func garbage(r *rig, c net.Conn) {
	block := make([]byte, 64<<10)
	for i, x := 0, uint32(1); i < len(block); i++ {
		x = x*1664525 + 1013904223 // Numerical Recipes' generator: the same in each run
		block[i] = byte(x >> 24)
	}
	r.pour(c, block)
}

// webSocket has the bridge speak MQTT over WebSocket with mosquitto.
func webSocket(r *rig) {
	r.meddler = &meddler{raw: true}
	r.setup.url = "ws://" + meddlerHost + "/mqtt"
}

func endlessHeaders(r *rig, c net.Conn) {
	r.pour(c, []byte("HTTP/1.1 101 Switching Protocols\r\n"))
}

func endlessHeader(r *rig, c net.Conn) {
	_, _ = io.WriteString(c, "HTTP/1.1 101 Switching Protocols\r\nX-Long: ")
	r.pour(c, bytes.Repeat([]byte("x"), 64<<10))
}

// endlessWebSocket lets mosquitto open the WebSocket, and goes on in its place.
func endlessWebSocket(r *rig, c net.Conn) {
	broker, err := r.meddler.behind(r.ctx)
	if err != nil {
		return
	}
	defer broker.Close()
	go io.Copy(broker, c)
	// The answer to the request, and to CONNECT.
	for range 2 {
		buf := make([]byte, 4096)
		_ = broker.SetReadDeadline(time.Now().Add(harness.Patience))
		n, err := broker.Read(buf)
		if err != nil {
			return
		}
		_, _ = c.Write(buf[:n])
	}
	_, _ = c.Write([]byte("\x82\x7f\x3f\xff\xff\xff\xff\xff\xff\xff")) // RFC 6455, 5.2
	frame := r.publishFrame("v/x", 0, 0, make([]byte, 32<<10))
	r.pour(c, frame)
}
