// Package netlab builds throw-away networks of namespaces for the tests.
//
// A host is a network namespace, a cable is a veth pair, and nothing of it is
// connected to the machine the tests run on:
//
//	func TestMain(m *testing.M) { netlab.Main(m) }
//
//	func TestSource(t *testing.T) {
//		lab := netlab.New(t)
//		gw, dev := lab.Host("gw"), lab.Host("dev")
//		lab.Link(gw, "iso0", dev, "eth0")
//		gw.Addr("iso0", "172.17.0.1/16")
//		dev.Addr("eth0", "172.17.0.50/16")
//		wire := dev.Capture("eth0")
//		err := gw.Do(func() error { … })    // sockets opened here belong to gw
//		got := wire.WaitFor(1, nil)         // what came out of the cable
//		…
//	}
//
// [Main] starts the test binary again in a namespace of its own, with no root
// needed where the kernel lets users make namespaces. Where it does not, the
// tests that call [New] skip and say why, and all others run as ever; see
// [Skip] for turning skips into failures.
//
// The package shares no code with bridge/multicast: it is the independent
// view of what that package puts on the wire.
package netlab
