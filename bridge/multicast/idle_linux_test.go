package multicast

import (
	"bytes"
	"errors"
	"testing"

	"topicast/internal/lab/netlab"
)

// A shaper refuses both what is longer than its burst, for ever, and what its queue has
// no room for now. It is idle with the first alone.
func TestAnIdleQueueIsToldFromAFullOne(t *testing.T) {
	for dev, from := range map[string]string{"iso0": "172.17.0.1", "mv0": "172.18.0.1"} {
		t.Run(dev, func(t *testing.T) {
			rig := netlab.NewRig(t)
			if dev == "mv0" { // sends through iso0, as a VLAN does
				ip(t, rig.GW, "link add link iso0 name mv0 type macvlan mode bridge", "link set mv0 up", "addr add 172.18.0.1/16 dev mv0")
			}
			rig.GW.Shape("iso0", 1250, 1000, 3000) // 10 kbit/s
			s := openOn(t, rig.GW, with(bind(from, dev), nil))
			idle := func() (is bool) {
				_ = rig.GW.Do(func() error { is = s.Idle(); return nil })
				return is
			}
			send := func(size int) error {
				_, err := s.Send([]Datagram{{To: rigGroup, Payload: bytes.Repeat([]byte("x"), size)}}, func(_ int, err error) { t.Error(err) })
				return err
			}
			if err := send(1400); !errors.Is(err, ErrNoBuffer) || !idle() {
				t.Errorf("more than the burst: %v, idle: %v", err, idle())
			}
			var err error
			for range 20 {
				if err = send(800); err != nil {
					break
				}
			}
			if !errors.Is(err, ErrNoBuffer) || idle() {
				t.Errorf("more than the queue: %v, idle: %v", err, idle())
			}
		})
	}
}
