package multicast_test

import (
	"fmt"
	"net/netip"

	"topicast/bridge/multicast"
)

// A datagram leaves from 127.0.0.2 by the loopback interface, and is heard by who
// has joined its group there.
func Example() {
	group := netip.MustParseAddrPort("239.255.77.1:30077")
	interfaces, err := multicast.Interfaces()
	if err != nil {
		fmt.Println(err)
		return
	}
	lo, err := multicast.ResolveInterface("127.0.0.1", interfaces)
	if err != nil { // wraps ErrPending: it may come by itself
		fmt.Println(err)
		return
	}
	r, err := multicast.Listen(multicast.ReceiverOptions{Group: group}, lo)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer r.Close()

	src, err := multicast.Binding{Source: netip.MustParsePrefix("127.0.0.2/32"), TTL: 1, Loopback: true}.Resolve()
	if err != nil { // wraps ErrPending where the address may come by itself
		fmt.Println(err)
		return
	}
	s, err := multicast.Open(src)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer s.Close()

	n, err := s.Send([]multicast.Datagram{{To: group, Payload: []byte("level 10%")}},
		func(i int, err error) { fmt.Println("datagram", i, "did not leave:", err) })
	fmt.Println(n, "sent", err)

	batch := make([]multicast.Datagram, multicast.MaxReceive)
	if n, err = r.Receive(batch); err == nil {
		fmt.Printf("%d heard: %q from %v\n", n, batch[0].Payload, batch[0].Source.Addr())
	}
	// Output:
	// 1 sent <nil>
	// 1 heard: "level 10%" from 127.0.0.2
}

// A source that is not on this host is refused, and may come later.
func ExampleBinding_ResolveIn() {
	iso0 := multicast.Interface{Index: 2, Name: "iso0", Up: true, Carrier: true, Addresses: []multicast.Address{{Prefix: netip.MustParsePrefix("172.17.0.1/16")}}}
	_, err := multicast.Binding{Source: netip.MustParsePrefix("172.18.0.1/32"), Interface: "iso0", TTL: 1}.ResolveIn([]multicast.Interface{iso0})
	fmt.Println(err)
	// Output: 172.18.0.1 is not on iso0 (it has 172.17.0.1/16)
}
