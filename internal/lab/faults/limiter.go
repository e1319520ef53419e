//go:build linux

package main

import (
	"bufio"
	"context"
	"io"
	"net"
	"sync"
	"sync/atomic"

	"github.com/eclipse/paho.mqtt.golang/packets"

	"topicast/internal/lab/harness"
)

// A limiter stands before a broker and adds a limit that the broker does not have: on
// the filters in one SUBSCRIBE, and on those that one connection has. It does as AWS IoT
// Core does with a client that asks for more: it closes the connection without a word.
type limiter struct {
	inPacket, inAll int
	behind          func(context.Context) (net.Conn, error) // the broker
	closed          atomic.Int32                            // connections, for that
}

// serve serves until ctx ends.
func (m *limiter) serve(ctx context.Context, at net.Listener) {
	context.AfterFunc(ctx, func() { at.Close() })
	for {
		conn, err := at.Accept()
		if err != nil {
			return
		}
		go m.pass(ctx, conn)
	}
}

// pass passes on what the client and the broker send, until one of them ends it.
func (m *limiter) pass(ctx context.Context, client net.Conn) {
	defer client.Close()
	broker, err := m.behind(ctx)
	if err != nil {
		return
	}
	defer context.AfterFunc(ctx, func() { client.Close(); broker.Close() })()
	var both sync.WaitGroup
	defer both.Wait()
	defer broker.Close()
	both.Go(func() {
		_, _ = io.Copy(client, broker)
		client.Close()
	})
	from := bufio.NewReader(client)
	asked := map[string]bool{}
	five := false
	for {
		p, err := harness.ReadFrame(from)
		if err != nil {
			return
		}
		inPacket := 0
		switch p.Kind() {
		case packets.Connect:
			five = p.IsFive()
		case packets.Subscribe:
			for _, f := range p.Filters(five) {
				inPacket++
				asked[f] = true
			}
		case packets.Unsubscribe:
			for _, f := range p.Filters(five) {
				inPacket++
				delete(asked, f)
			}
		}
		if inPacket > m.inPacket || len(asked) > m.inAll {
			m.closed.Add(1)
			return
		}
		if _, err := broker.Write(p); err != nil {
			return
		}
	}
}
