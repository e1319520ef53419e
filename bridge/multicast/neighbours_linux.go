package multicast

import (
	"encoding/binary"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// neighbourOverflows is how often the kernel's table of neighbours had no room for one more
// (rtnetlink(7), RTM_GETNEIGHTBL; since Linux 4.3).
func neighbourOverflows(ipv6 bool) (n uint64, ok bool) {
	family := neighbourFamily(unix.AF_INET)
	if ipv6 {
		family = unix.AF_INET6
	}
	messages, err := dump(func() ([][]byte, error) {
		request := nl.NewNetlinkRequest(unix.RTM_GETNEIGHTBL, unix.NLM_F_DUMP)
		request.AddData(family)
		return request.Execute(unix.NETLINK_ROUTE, unix.RTM_NEWNEIGHTBL)
	})
	if err != nil {
		return 0, false
	}
	for _, m := range messages {
		if n, ok := tableOverflows(m, family); ok {
			return n, true
		}
	}
	return 0, false
}

// tableOverflows reads struct ndt_stats of linux/neighbour.h. Messages about single interfaces
// have none.
func tableOverflows(message []byte, family neighbourFamily) (n uint64, ok bool) {
	const stats, full = 7, 10 * 8 // NDTA_STATS; ndts_table_fulls, behind ten others
	if len(message) < family.Len() || message[0] != byte(family) {
		return 0, false
	}
	attributes, err := nl.ParseRouteAttr(message[family.Len():])
	if err != nil {
		return 0, false
	}
	for _, a := range attributes {
		if a.Attr.Type == stats && len(a.Value) >= full+8 {
			return binary.NativeEndian.Uint64(a.Value[full:]), true
		}
	}
	return 0, false
}

// neighbourFamily is a request for the table of one family: struct ndtmsg.
type neighbourFamily byte

func (f neighbourFamily) Len() int          { return 4 }
func (f neighbourFamily) Serialize() []byte { return []byte{byte(f), 0, 0, 0} }
