package multicast

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"slices"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// ReadBridge asks the kernel about an interface; nil: it is no bridge. Anybody may.
func ReadBridge(on Interface) (*Bridge, error) {
	b, ports, err := readBridgeLinks(on.Index)
	if b == nil || err != nil {
		return nil, err
	}
	messages, err := dump(func() ([][]byte, error) {
		request := nl.NewNetlinkRequest(unix.RTM_GETMDB, unix.NLM_F_DUMP)
		request.AddData(portMessage{})
		return request.Execute(unix.NETLINK_ROUTE, 0)
	})
	if err != nil {
		return nil, fmt.Errorf("read who has joined groups behind the bridge %s: %w", on.Name, err)
	}
	b.Members, b.Own = make(map[netip.Addr][]string), make(map[netip.Addr]bool)
	for _, m := range messages {
		b.addTable(m, on.Index, ports)
	}
	return b, nil
}

// portMessage is a request for the tables of all bridges: struct br_port_msg of linux/if_bridge.h.
type portMessage struct{}

const sizeofPortMessage = 8

func (portMessage) Len() int          { return sizeofPortMessage }
func (portMessage) Serialize() []byte { return []byte{unix.AF_BRIDGE, 0, 0, 0, 0, 0, 0, 0} }

// readBridgeLinks finds the settings of a bridge, and the names of its ports by index.
func readBridgeLinks(index int) (b *Bridge, ports map[int]string, err error) {
	messages, err := dumpLinks()
	if err != nil {
		return nil, nil, fmt.Errorf("list the ports of a bridge: %w", err)
	}
	ports = make(map[int]string)
	var closed []string
	for _, m := range messages {
		if len(m) < unix.SizeofIfInfomsg {
			continue
		}
		link := nested(m[unix.SizeofIfInfomsg:])
		info := nested(link[unix.IFLA_LINKINFO])
		switch is := int(nl.DeserializeIfInfomsg(m).Index); {
		case is == index && textOf(info[unix.IFLA_INFO_KIND]) == "bridge":
			b = bridgeOf(nested(info[unix.IFLA_INFO_DATA]))
		case int(uint32Of(link[unix.IFLA_MASTER])) == index:
			ports[is] = textOf(link[unix.IFLA_IFNAME])
			flood := nested(info[unix.IFLA_INFO_SLAVE_DATA])[nl.IFLA_BRPORT_MCAST_FLOOD]
			if len(flood) == 1 && flood[0] == 0 {
				closed = append(closed, ports[is])
			}
		}
	}
	if b != nil {
		b.NoFlood = closed
	}
	return b, ports, nil
}

func bridgeOf(settings map[uint16][]byte) *Bridge {
	const state = nl.IFLA_BR_MAX + 3                // IFLA_BR_MCAST_QUERIER_STATE, since Linux 5.15
	const address4, address6 = uint16(1), uint16(5) // BRIDGE_QUERIER_IP_ADDRESS, BRIDGE_QUERIER_IPV6_ADDRESS
	on := func(attribute uint16) bool { v := settings[attribute]; return len(v) == 1 && v[0] != 0 }
	known := nested(settings[state])
	return &Bridge{
		Snooping: on(nl.IFLA_BR_MCAST_SNOOPING),
		Querier4: on(nl.IFLA_BR_MCAST_QUERIER) || known[address4] != nil,
		Querier6: on(nl.IFLA_BR_MCAST_QUERIER) || known[address6] != nil,
	}
}

// addTable takes in what one message says of the bridge with an index: MDBA_MDB and MDBA_ROUTER
// of linux/if_bridge.h.
func (b *Bridge) addTable(message []byte, index int, ports map[int]string) {
	const entries, routers = 1, 2 // MDBA_MDB, MDBA_ROUTER
	if len(message) < sizeofPortMessage || int(binary.NativeEndian.Uint32(message[4:])) != index {
		return
	}
	for _, table := range attributesOf(message[sizeofPortMessage:]) {
		for _, entry := range attributesOf(table.value) {
			switch table.kind {
			case entries:
				for _, info := range attributesOf(entry.value) {
					b.addEntry(info.value, index, ports)
				}
			case routers:
				if len(entry.value) >= 4 {
					if name := ports[int(binary.NativeEndian.Uint32(entry.value))]; name != "" && !slices.Contains(b.Routers, name) {
						b.Routers = append(b.Routers, name)
					}
				}
			}
		}
	}
}

// addEntry reads struct br_mdb_entry.
func (b *Bridge) addEntry(e []byte, index int, ports map[int]string) {
	const address, protocol, size = 8, 24, 26
	if len(e) < size {
		return
	}
	var group netip.Addr
	switch binary.BigEndian.Uint16(e[protocol:]) {
	case unix.ETH_P_IP:
		group = netip.AddrFrom4([4]byte(e[address:]))
	case unix.ETH_P_IPV6:
		group = netip.AddrFrom16([16]byte(e[address:]))
	default:
		return // by hardware address
	}
	at := int(binary.NativeEndian.Uint32(e))
	if at == index {
		b.Own[group] = true
	} else if name := ports[at]; name != "" && !slices.Contains(b.Members[group], name) {
		b.Members[group] = append(b.Members[group], name)
	}
}

// attribute is one of netlink; of many of a kind each counts.
type attribute struct {
	kind  uint16
	value []byte
}

func attributesOf(b []byte) (list []attribute) {
	const typeMask = 1<<14 - 1 // NLA_TYPE_MASK: without the flags of nested ones
	all, err := nl.ParseRouteAttr(b)
	if err != nil {
		return nil
	}
	for _, a := range all {
		list = append(list, attribute{a.Attr.Type & typeMask, a.Value})
	}
	return list
}

// nested is the attributes within one, by kind.
func nested(b []byte) map[uint16][]byte {
	m := make(map[uint16][]byte)
	for _, a := range attributesOf(b) {
		m[a.kind] = a.value
	}
	return m
}

func textOf(b []byte) string { return unix.ByteSliceToString(b) }

func uint32Of(b []byte) uint32 {
	if len(b) < 4 {
		return 0
	}
	return binary.NativeEndian.Uint32(b)
}
