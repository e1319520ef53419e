package members

import (
	"errors"
	"net/netip"
	"os"
	"sync"
	"time"

	"topicast/bridge/multicast"
	"topicast/internal/frame"
)

// NoRight is why reports are not heard without CAP_NET_RAW.
const NoRight = "hearing the reports of others needs CAP_NET_RAW, which topicast does not have (docs/doctor.md, who listens, has it for a unit of systemd and for a container)"

// bridgeFor is how long what the kernel said of a bridge is gone by.
const bridgeFor = time.Second

// A Watch hears the reports on one interface for as long as it is open. Its socket sees nothing
// but IGMP and MLD. It may be used by several goroutines.
type Watch struct {
	on     multicast.Interface
	socket *multicast.PacketSocket // nil: none could be had
	done   sync.WaitGroup
	again  bool // to open it again may help

	mu   sync.Mutex
	know Knowledge
	read time.Time // when the bridge was read
}

// Open begins to. Where no socket is to be had it knows what the kernel's bridge tells, and says
// what is missing.
func Open(on multicast.Interface) *Watch {
	w := &Watch{on: on, know: Knowledge{On: on}}
	socket, err := multicast.OpenPacketSocket(on, multicast.SightReports)
	switch {
	case err == nil:
		w.socket, w.know.Table = socket, NewTable(time.Now())
		w.done.Go(w.listen)
	case errors.Is(err, os.ErrPermission):
		w.know.NoEars = NoRight
	case errors.Is(err, errors.ErrUnsupported):
		w.know.NoEars = err.Error()
	default:
		w.know.NoEars, w.again = err.Error(), true
	}
	return w
}

// listen reads until the socket is closed.
func (w *Watch) listen() {
	var reader frame.Reader
	packet := make([]byte, 1<<16)
	for {
		n, leaving, err := w.socket.Read(packet)
		now := time.Now()
		w.mu.Lock()
		if err != nil {
			w.know.Table, w.know.NoEars, w.again = nil, err.Error(), true
			w.mu.Unlock()
			return
		}
		w.know.Table.Hear(reader.Read(packet[:n], now), leaving, now)
		w.mu.Unlock()
	}
}

// Lacking reports why no reports are heard, and whether to open another one may help; "": they are.
func (w *Watch) Lacking() (why string, again bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.know.NoEars, w.again
}

// Of says who has joined the groups of a prefix: of one group whatever is known of it, of several
// those that somebody has joined, most of them, and else one answer for all.
func (w *Watch) Of(groups netip.Prefix, most int) []Answer {
	w.mu.Lock()
	defer w.mu.Unlock()
	now := time.Now()
	if now.Sub(w.read).Abs() >= bridgeFor {
		bridge, err := multicast.ReadBridge(w.on)
		w.read = now
		if err == nil {
			w.know.Bridge = bridge
		}
	}
	return w.know.Within(groups, most, now)
}

// Close ends it.
func (w *Watch) Close() {
	if w.socket != nil {
		w.socket.Close()
	}
	w.done.Wait()
}
