package bridge

import "topicast/bridge/multicast"

// sendSurely sends as s.Send does. Where something of it is to be acknowledged, it
// then asks whether the interface has kept its carrier: without, the kernel takes
// datagrams and loses them, and tells of it only later. If it has not, nothing counts
// as sent, though some may have left: those leave twice, which at least once allows.
//
// What it tells failed holds only for what counts as disposed of.
func sendSurely(s socket, batch []multicast.Datagram, acknowledged bool, failed func(i int, err error)) (n int, err error) {
	n, err = s.Send(batch, failed)
	if n > 0 && acknowledged {
		if lost := s.Carrier(); lost != nil {
			return 0, lost
		}
	}
	return n, err
}
