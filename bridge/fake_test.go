package bridge

import (
	"context"
	"sync"
	"testing"

	"topicast/bridge/multicast"
	"topicast/bridge/receive"
	"topicast/bridge/send"
	"topicast/internal/lab/fake"
	"topicast/mapping"
)

// newTestBridge is a bridge on n without a broker: tests hand it batches.
func newTestBridge(t testing.TB, n *fake.Network, queue int64, rules ...mapping.SendRule) *Bridge {
	t.Helper()
	return newTestBridgeOf(t, n, Options{QueueSize: queue}, rules, nil)
}

// newTestBridgeOf is one of both directions. What it publishes goes to a
// fake.Publisher.
func newTestBridgeOf(t testing.TB, n *fake.Network, o Options, send []mapping.SendRule, receive []mapping.ReceiveRule) *Bridge {
	t.Helper()
	table, err := mapping.Compile(send, receive)
	if err != nil {
		t.Fatal(err)
	}
	o.Version, o.Table, o.network = "test", table, of(n)
	o.Session.URLs = []string{"mqtt://127.0.0.1:1"}
	o.Session.ClientID = "test"
	o.Session.KeepAlive = 30e9
	b, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	publisher := new(fake.Publisher)
	b.receive.PublishTo(publisher)
	b.send.PublishTo(publisher)
	publishers.Store(b, publisher)
	ctx, stop := context.WithCancel(context.Background())
	var drains, readers sync.WaitGroup
	b.attach(&runContext{ctx, &drains, &readers})
	t.Cleanup(func() {
		stop()
		b.send.Stop(context.Background())
		drains.Wait()
		b.receive.StopReceivers(&readers)
		checkSeries(t, b)
		publishers.Delete(b)
	})
	b.reconcile(ctx)
	return b
}

// of is a network that a test writes the script of.
func of(n *fake.Network) network {
	return network{
		interfaces: n.Interfaces, watch: n.Watch, hostUnclaimed: n.HostUnclaimed,
		gatewayRoutes: n.GatewayRoutes, gatewayRoute: n.GatewayRoute,
		open: func(src multicast.Source) (send.Sender, error) {
			s, err := n.Open(src)
			if err != nil {
				return nil, err
			}
			return s, nil
		},
		listen: func(o multicast.ReceiverOptions, on multicast.Interface) (receive.Receiver, error) {
			r, err := n.Listen(o, on)
			if err != nil {
				return nil, err
			}
			return r, nil
		},
	}
}

// publishers are the fakes that the bridges of tests publish to.
var publishers sync.Map

// publisherOf is what a bridge of newTestBridgeOf publishes to.
func publisherOf(b *Bridge) *fake.Publisher {
	p, _ := publishers.Load(b)
	return p.(*fake.Publisher)
}
