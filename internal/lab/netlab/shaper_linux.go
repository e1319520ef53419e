package netlab

import (
	"github.com/vishvananda/netlink"
)

// Shape puts a token bucket filter (tc-tbf(8)) in front of an interface: so many
// bytes a second, of which a burst may leave at once, and a queue of limit bytes.
func (h *Host) Shape(dev string, bytesPerSecond uint64, burst, limit uint32) {
	h.t.Helper()
	if err := h.rt.QdiscReplace(h.shaper(dev, netlink.HANDLE_ROOT, bytesPerSecond, burst, limit)); err != nil {
		Skip(h.t, "no shaper (tbf): %v", err)
	}
}

// ShapeBelow is [Host.Shape] within another discipline: a prio, whose first band it
// is.
func (h *Host) ShapeBelow(dev string, bytesPerSecond uint64, burst, limit uint32) {
	h.t.Helper()
	above := netlink.NewPrio(netlink.QdiscAttrs{LinkIndex: h.Index(dev), Handle: netlink.MakeHandle(2, 0), Parent: netlink.HANDLE_ROOT})
	if err := h.rt.QdiscReplace(above); err != nil {
		SkipKernel(h.t, "this kernel has no prio: %v", err)
	}
	for band := range uint16(3) {
		s := h.shaper(dev, netlink.MakeHandle(2, band+1), bytesPerSecond, burst, limit)
		s.Handle = netlink.MakeHandle(3+band, 0)
		if err := h.rt.QdiscReplace(s); err != nil {
			Skip(h.t, "no shaper (tbf): %v", err)
		}
	}
}

func (h *Host) shaper(dev string, parent uint32, bytesPerSecond uint64, burst, limit uint32) *netlink.Tbf {
	h.t.Helper()
	return &netlink.Tbf{
		QdiscAttrs: netlink.QdiscAttrs{LinkIndex: h.Index(dev), Handle: netlink.MakeHandle(1, 0), Parent: parent},
		Rate:       bytesPerSecond, Limit: limit, Buffer: netlink.Xmittime(bytesPerSecond, burst),
	}
}

// Unshape takes what [Host.Shape] or [Host.ShapeBelow] put there away.
func (h *Host) Unshape(dev string) {
	h.t.Helper()
	list, err := h.rt.QdiscList(h.link(dev))
	h.must(err, "list the queues of", dev)
	for _, q := range list {
		if q.Attrs().Parent == netlink.HANDLE_ROOT && q.Attrs().Handle != 0 {
			h.must(h.rt.QdiscDel(q), "unshape", dev)
		}
	}
}
