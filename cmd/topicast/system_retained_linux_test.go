package main

import (
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"topicast/internal/lab/netlab"
)

// lamps is a system with many retained topics and a state folder.
type lamps struct {
	*system
	folder string
	device *netlab.Device
	seen   int
	asked  int
}

const lampCount = 50

func newLamps(t *testing.T) *lamps {
	folder := t.TempDir()
	s := newSystem(t, fmt.Sprintf(`
  - { name: lamps, filter: lamp/+, group: 239.1.1.1:5000, source: 172.17.0.1 }
  - { name: last, filter: mark, group: 239.1.1.2:5000, source: 172.17.0.1 }
spool:
  dir: %s
`, folder))
	return &lamps{system: s, folder: folder,
		device: s.Dev.Device("eth0", netip.MustParseAddrPort("239.1.1.1:5000"), netip.MustParseAddrPort("239.1.1.3:5000"), netip.MustParseAddrPort("239.1.1.2:5000"))}
}

// through waits until everything is through that the broker has had so far, and
// returns what the device has received since the last time.
func (l *lamps) through() (payloads []string) {
	l.t.Helper()
	l.asked++
	mark := fmt.Sprint("mark ", l.asked)
	l.publish(l.client("marker"), "mark", []byte(mark))
	l.device.Watch(func(r netlab.Received) bool { return string(r.Payload) == mark })
	for _, r := range l.device.Received()[l.seen:] {
		l.seen++
		payload := string(r.Payload)
		if payload == mark {
			break
		}
		if !strings.HasPrefix(payload, "mark") {
			payloads = append(payloads, payload)
		}
	}
	return payloads
}

// sends wants the device to have received just these since the last time, in any
// order.
func (l *lamps) sends(when string, want ...string) {
	l.t.Helper()
	got := l.through()
	slices.Sort(got)
	slices.Sort(want)
	if !slices.Equal(got, want) {
		l.t.Errorf("%s: the device received %q, want %q", when, got, want)
	}
}

// all are the payloads of all lamps, as they were published first.
func all() (payloads []string) {
	for i := range lampCount {
		payloads = append(payloads, fmt.Sprint("on ", i))
	}
	return payloads
}

func (l *lamps) publishAll() {
	l.t.Helper()
	publisher := l.client("backend")
	for i, payload := range all() {
		l.publishRetained(publisher, fmt.Sprint("lamp/", i), []byte(payload))
	}
}

func (l *lamps) starts() *netlab.Process {
	l.t.Helper()
	p := l.startBridge()
	l.ready()
	return p
}

func (l *lamps) stops(p *netlab.Process) {
	l.t.Helper()
	if err := p.Stop(); err != nil {
		l.t.Fatalf("after SIGTERM: %v", err)
	}
}

// settled waits until the file says what was sent of n lamps.
func (l *lamps) settled(n int) {
	l.t.Helper()
	// The head, and a record for each lamp; the mark is none, as it was not rested.
	const head, record = 54, 20
	l.eventually("the state folder knows what was sent", func() error {
		info, err := os.Stat(filepath.Join(l.folder, "last-sent"))
		if err == nil && info.Size() < int64(head+n*record) {
			err = fmt.Errorf("it has %d bytes", info.Size())
		}
		return err
	})
}

func TestARestartSwitchesNoLampAgain(t *testing.T) {
	l := newLamps(t)
	l.startBroker()
	l.publishAll()
	p := l.starts()
	l.sends("kept before the first start", all()...)
	l.stops(p)

	p = l.starts()
	l.sends("the same after a restart")
	if got := l.rule("lamps").Filtered["retained"]; got != lampCount {
		t.Errorf("%d filtered as retained, want %d", got, lampCount)
	}
	publisher := l.client("backend")
	l.publishRetained(publisher, "lamp/3", []byte("dim 3"))
	l.sends("one published now", "dim 3")
	l.stops(p)

	// While it is away. The broker queues what is of QoS 1 for the session, and hands
	// it out once more as retained; it has what is of QoS 0 only as retained.
	l.publishRetained(publisher, "lamp/7", []byte("off 7"))
	l.done(publisher.Publish("lamp/8", 0, true, "off 8"), "publish")
	l.publishRetained(publisher, "lamp/9", nil)
	l.publishRetained(publisher, "lamp/9", []byte("on 9"))
	l.publishRetained(publisher, "lamp/10", []byte("off 10"))
	l.publishRetained(publisher, "lamp/10", []byte("on 10"))
	p = l.starts()
	l.sends("some changed meanwhile", "off 7", "off 8", "", "on 9", "off 10", "on 10")
	l.stops(p)
	p = l.starts()
	l.sends("and another restart")
	l.stops(p)
}

func TestAKillSwitchesNoLampAgain(t *testing.T) {
	l := newLamps(t)
	l.startBroker()
	l.publishAll()
	p := l.starts()
	l.sends("kept before the first start", all()...)
	l.settled(lampCount)
	p.Kill()

	p = l.starts()
	l.sends("the same after a kill")
	// This one is no longer what is on disk when the process dies, so that nothing
	// is known of it; or the next message would be taken for the last one sent.
	publisher := l.client("backend")
	l.publishRetained(publisher, "lamp/3", []byte("off 3"))
	l.device.Watch(func(r netlab.Received) bool { return string(r.Payload) == "off 3" })
	p.Kill()
	l.done(publisher.Publish("lamp/3", 0, true, "on 3"), "publish")
	l.publish(publisher, "mark", []byte("mark: the broker has it"))
	p = l.starts()
	var got []string
	for _, payload := range l.through() {
		if strings.HasSuffix(payload, " 3") {
			got = append(got, payload)
		}
	}
	// What was not acknowledged before the kill comes twice.
	if got = slices.Compact(got); !slices.Equal(got, []string{"off 3", "on 3"}) {
		t.Errorf("lamp 3 received %q, want off, and on again", got)
	}
	l.stops(p)
}

func TestAReloadAndAFailoverSwitchNoLampAgain(t *testing.T) {
	t.Parallel() // it waits most of the time
	l := newLamps(t)
	broker := l.startBroker()
	l.publishAll()
	p := l.starts()
	l.sends("kept before the first start", all()...)

	was, err := os.ReadFile(l.config)
	if err != nil {
		t.Fatal(err)
	}
	change := func(old, new string) {
		t.Helper()
		if err := os.WriteFile(l.config, []byte(strings.Replace(string(was), old, new, 1)), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	// A filter that covers the one there is: the broker is asked for all of it anew.
	change("  - { name: last", "  - { name: more, filter: '#', group: 239.1.1.4:5000, source: 172.17.0.1, retained: never }\n  - { name: last")
	l.eventually("the reload", func() error {
		if got := l.status().Reload; got == nil || got.Count == 0 {
			return fmt.Errorf("%+v", got)
		}
		return nil
	})
	l.ready()
	l.sends("after a reload that asks for other filters")
	l.stops(p)
	if err := os.WriteFile(l.config, was, 0o600); err != nil {
		t.Fatal(err)
	}

	// Another broker, which knows no session.
	if err := broker.Stop(); err != nil {
		t.Logf("mosquitto: %v", err)
	}
	l.startBroker()
	l.publishAll()
	l.publishRetained(l.client("backend"), "lamp/5", []byte("off 5"))
	p = l.starts()
	l.sends("at another broker", "off 5")
	l.stops(p)

	// Devices of another group have nothing yet.
	change("239.1.1.1:5000", "239.1.1.3:5000")
	p = l.starts()
	want := all()
	want[5] = "off 5"
	l.sends("for another group", want...)
	l.stops(p)
	p = l.starts()
	l.sends("for another group, again")
	l.stops(p)
}
