package demobroker_test

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	packets5 "github.com/eclipse/paho.golang/packets"
	"github.com/eclipse/paho.mqtt.golang/packets"
	"go.uber.org/goleak"

	"topicast/bridge/session"
	"topicast/internal/demobroker"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestTheSessionOfTheBridgeGetsEveryByte(t *testing.T) {
	for i := range 6 {
		qos, protocol := byte(i%3), []session.Protocol{session.Protocol311, session.ProtocolAuto}[i/3]
		t.Run(fmt.Sprintf("QoS %d, %v", qos, protocol), func(t *testing.T) {
			b := start(t)
			got := make(chan session.Message, 10)
			s, err := session.New(session.Options{URLs: []string{b.URL()}, ClientID: "bridge", Clean: true, Protocol: protocol,
				Subscriptions: []session.Subscription{{Filter: "site/+/lamp", QoS: qos}},
				Handle: func(batch []session.Message) {
					for _, m := range batch {
						m.Payload = bytes.Clone(m.Payload)
						got <- m
					}
				}})
			if err != nil {
				t.Fatal(err)
			}
			ctx, end := context.WithCancel(t.Context())
			ended := make(chan error)
			go func() { ended <- s.Run(ctx) }()
			defer func() { end(); <-ended }()
			waitFor(t, "the subscription", func() bool { return s.State().Active == 1 })
			if spoken := s.State().Protocol; (spoken == "5") != (protocol == session.ProtocolAuto) {
				t.Errorf("MQTT %s is spoken", spoken)
			}
			for _, want := range [][]byte{{}, {0x11, 0x00, 0xff, '\n'}, bytes.Repeat([]byte{0xa5}, 65507)} {
				if err := s.Publish(ctx, "site/7/lamp", want, qos, false); err != nil {
					t.Fatal(err)
				}
				if m := within(t, got); !bytes.Equal(m.Payload, want) || m.QoS != qos {
					t.Errorf("got %d bytes with QoS %d, want the %d sent", len(m.Payload), m.QoS, len(want))
				}
			}
		})
	}
}

// Hand-made packets, and what the broker answers to them.
func TestEachPacketIsAnsweredAsTheStandardSays(t *testing.T) {
	const (
		hello     = "\x10\x0d\x00\x04MQTT\x04\x02\x00\x00\x00\x01c"
		welcome   = "\x20\x02\x00\x00"
		subscribe = "\x82\x06\x00\x07\x00\x01a\x02"
		granted   = "\x90\x03\x00\x07\x02"
		closed    = "closed"
	)
	for name, c := range map[string]struct {
		sends, want string
		end         string // closed if the broker closes, "" if it goes on
	}{
		"ping":                             {hello + "\xc0\x00", welcome + "\xd0\x00", ""},
		"a session is asked for":           {"\x10\x0d\x00\x04MQTT\x04\x00\x00\x00\x00\x01c", welcome, ""},
		"no identifier":                    {"\x10\x0c\x00\x04MQTT\x04\x02\x00\x00\x00\x00", welcome, ""},
		"no identifier, and a session":     {"\x10\x0c\x00\x04MQTT\x04\x00\x00\x00\x00\x00", "\x20\x02\x00\x02", closed},
		"MQTT 6":                           {"\x10\x0e\x00\x04MQTT\x06\x02\x00\x00\x00\x00\x01c", "\x20\x02\x00\x01", closed},
		"another protocol":                 {"\x10\x0d\x00\x04MQTX\x04\x02\x00\x00\x00\x01c", "", closed},
		"HTTP":                             {"GET / HTTP/1.1\r\n\r\n", "", closed},
		"not CONNECT first":                {"\xc0\x00", "", closed},
		"CONNECT twice":                    {hello + hello, welcome, closed},
		"DISCONNECT":                       {hello + "\xe0\x00", welcome, closed},
		"a will with wildcards":            {"\x10\x13\x00\x04MQTT\x04\x06\x00\x00\x00\x01c\x00\x01#\x00\x01x", "", closed},
		"SUBSCRIBE":                        {hello + subscribe, welcome + granted, ""},
		"SUBSCRIBE to what is no filter":   {hello + "\x82\x0b\x00\x07\x00\x01a\x01\x00\x02a#\x01", welcome + "\x90\x04\x00\x07\x01\x80", ""},
		"SUBSCRIBE with braces":            {hello + "\x82\x08\x00\x07\x00\x03{x}\x01", welcome + "\x90\x03\x00\x07\x80", ""},
		"SUBSCRIBE without a filter":       {hello + "\x82\x02\x00\x07", welcome, closed},
		"SUBSCRIBE with QoS 3":             {hello + "\x82\x06\x00\x07\x00\x01a\x03", welcome, closed},
		"SUBSCRIBE with bad flags":         {hello + "\x80\x06\x00\x07\x00\x01a\x02", welcome, closed},
		"SUBSCRIBE cut short":              {hello + "\x82\x06\x00\x07\x00\x09a\x02", welcome, closed},
		"UNSUBSCRIBE":                      {hello + subscribe + "\xa2\x05\x00\x08\x00\x01a" + "\x30\x04\x00\x01ax", welcome + granted + "\xb0\x02\x00\x08", ""},
		"QoS 0":                            {hello + subscribe + "\x30\x04\x00\x01ax", welcome + granted + "\x30\x04\x00\x01ax", ""},
		"QoS 1":                            {hello + subscribe + "\x32\x06\x00\x01a\x00\x05x", welcome + granted + "\x32\x06\x00\x01a\x00\x01x" + "\x40\x02\x00\x05", ""},
		"QoS 2, twice before its PUBREL":   {hello + subscribe + "\x34\x06\x00\x01a\x00\x05x" + "\x3c\x06\x00\x01a\x00\x05x" + "\x62\x02\x00\x05", welcome + granted + "\x34\x06\x00\x01a\x00\x01x" + "\x50\x02\x00\x05\x50\x02\x00\x05\x70\x02\x00\x05", ""},
		"QoS 2, again after its PUBREL":    {hello + subscribe + "\x34\x06\x00\x01a\x00\x05x\x62\x02\x00\x05\x34\x06\x00\x01a\x00\x05y", welcome + granted + "\x34\x06\x00\x01a\x00\x01x\x50\x02\x00\x05\x70\x02\x00\x05\x34\x06\x00\x01a\x00\x02y\x50\x02\x00\x05", ""},
		"what is delivered with QoS 2":     {hello + "\x50\x02\x00\x01\x70\x02\x00\x01\xc0\x00", welcome + "\x62\x02\x00\x01\xd0\x00", ""},
		"two subscriptions match":          {hello + subscribe + "\x82\x06\x00\x08\x00\x01+\x00" + "\x32\x06\x00\x01a\x00\x05x", welcome + granted + "\x90\x03\x00\x08\x00" + "\x32\x06\x00\x01a\x00\x01x\x40\x02\x00\x05", ""},
		"retained":                         {hello + "\x33\x06\x00\x01a\x00\x05x" + subscribe, welcome + "\x40\x02\x00\x05" + granted + "\x33\x06\x00\x01a\x00\x01x", ""},
		"QoS 3":                            {hello + "\x36\x06\x00\x01a\x00\x05x", welcome, closed},
		"packet identifier 0":              {hello + "\x32\x06\x00\x01a\x00\x00x", welcome, closed},
		"a topic with a wildcard":          {hello + "\x30\x04\x00\x01#x", welcome, closed},
		"a topic longer than its packet":   {hello + "\x30\x04\x00\x09ax", welcome, closed},
		"what only brokers send":           {hello + "\x20\x02\x00\x00", welcome, closed},
		"type 0":                           {hello + "\x00\x00", welcome, closed},
		"type 15":                          {hello + "\xf0\x00", welcome, closed},
		"a packet above the limit":         {hello + "\x30\x81\x80\x10", welcome, closed},
		"a length that does not end":       {hello + "\x30\x80\x80\x80\x80\x01", welcome, closed},
		"an identifier that is not UTF-8":  {"\x10\x0d\x00\x04MQTT\x04\x02\x00\x00\x00\x01\xff", "", closed},
		"an identifier cut short is no id": {"\x10\x0d\x00\x04MQTT\x04\x02\x00\x00\x00\x02c", "", closed},
	} {
		t.Run(name, func(t *testing.T) { exchange(t, c.sends, c.want, c.end == closed) })
	}
}

// exchange has a client send bytes, and expects an answer, after which the broker closes
// the connection, or goes on.
func exchange(t *testing.T, sends, want string, closes bool) {
	t.Helper()
	conn := pipe(t, start(t))
	if !closes { // a last packet shows that all before it are handled, and that it goes on
		sends, want = sends+"\xc0\x00", want+"\xd0\x00"
	}
	go func() { _, _ = io.WriteString(conn, sends) }()
	_ = conn.SetReadDeadline(time.Now().Add(patience))
	var got []byte
	var err error
	if closes {
		got, err = io.ReadAll(conn)
	} else {
		got = make([]byte, len(want))
		_, err = io.ReadFull(conn, got)
	}
	if string(got) != want || err != nil {
		t.Errorf("answered %q (%v), want %q", got, err, want)
	}
}

func TestAClientThatDoesNotReadIsDroppedAndTheOthersGoOn(t *testing.T) {
	b := start(t)
	slow := pipe(t, b)
	connect(t, slow, "slow", 0)
	write(t, slow, &packets.SubscribePacket{FixedHeader: fixed(packets.Subscribe, 1), MessageID: 1, Topics: []string{"#"}, Qoss: []byte{0}})
	read(t, slow)
	pub, sub := pipe(t, b), pipe(t, b)
	connect(t, pub, "pub", 0)
	connect(t, sub, "sub", 0)
	write(t, sub, &packets.SubscribePacket{FixedHeader: fixed(packets.Subscribe, 1), MessageID: 1, Topics: []string{"#"}, Qoss: []byte{0}})
	read(t, sub)
	const n = 3000
	go func() {
		for range n {
			if (&packets.PublishPacket{FixedHeader: fixed(packets.Publish, 0), TopicName: "a", Payload: make([]byte, 100)}).Write(pub) != nil {
				return
			}
		}
	}()
	for range n {
		read(t, sub)
	}
	waitFor(t, "the one that does not read to be gone", func() bool { return b.Clients() == 2 })
}

func TestAClientIsDroppedThatIsSilentForLongerThanItSaid(t *testing.T) {
	b := start(t)
	c := pipe(t, b)
	connect(t, c, "c", 1)
	began := time.Now()
	if _, err := packets.ReadPacket(c); err == nil {
		t.Error("the connection goes on")
	}
	if took := time.Since(began); took < time.Second || took > 5*time.Second {
		t.Errorf("dropped after %v, want one and a half of its keep-alive of 1 s", took)
	}
}

func TestOneConnectionTooManyIsClosed(t *testing.T) {
	b := start(t)
	for i := range demobroker.MaxClients {
		connect(t, pipe(t, b), fmt.Sprint(i), 0)
	}
	c := pipe(t, b)
	_ = c.SetReadDeadline(time.Now().Add(time.Second))
	if _, err := c.Read(make([]byte, 1)); err != io.EOF {
		t.Errorf("not closed: %v", err)
	}
}

func TestTheClientWhoseIdentifierIsTakenOverIsClosed(t *testing.T) {
	b := start(t)
	first, second := pipe(t, b), pipe(t, b)
	connect(t, first, "me", 0)
	connect(t, second, "me", 0)
	_ = first.SetReadDeadline(time.Now().Add(patience))
	if _, err := first.Read(make([]byte, 1)); err != io.EOF {
		t.Errorf("the first is not closed: %v", err)
	}
	write(t, second, &packets.PingreqPacket{FixedHeader: fixed(packets.Pingreq, 0)})
	read(t, second)
}

func TestCloseLeavesNothing(t *testing.T) {
	b, err := demobroker.Start()
	if err != nil {
		t.Fatal(err)
	}
	addr := strings.TrimPrefix(b.URL(), "mqtt://")
	watch, silent := dial(t, addr), dial(t, addr)
	connect(t, watch, "watch", 0)
	write(t, watch, &packets.SubscribePacket{FixedHeader: fixed(packets.Subscribe, 1), MessageID: 1, Topics: []string{"will"}, Qoss: []byte{0}})
	read(t, watch)
	connect(t, silent, "silent", 0)
	for range 2 { // the second call has nothing to do
		b.Close()
	}
	for _, c := range []net.Conn{watch, silent} {
		if p, err := packets.ReadPacket(c); err == nil {
			t.Errorf("after the end comes %s", p)
		}
	}
	if c, err := net.Dial("tcp", addr); err == nil {
		c.Close()
		t.Error("it still listens")
	}
}

// Whatever a client sends, the broker answers with packets that can be read, and
// serves the others.
func FuzzClient(f *testing.F) {
	const hello = "\x10\x0d\x00\x04MQTT\x04\x02\x00\x00\x00\x01c"
	f.Add([]byte(hello + "\x82\x06\x00\x07\x00\x01a\x02\x35\x06\x00\x01a\x00\x05x\x62\x02\x00\x05\x50\x02\x00\x01\x70\x02\x00\x01"))
	f.Add([]byte(hello + "\xa2\x05\x00\x08\x00\x01a\x40\x02\x00\x01\xc0\x00\xe0\x00"))
	f.Add([]byte("\x10\x0e\x00\x04MQTT\x05\x02\x00\x00\x00\x00\x01c\x82\x09\x00\x07\x02\x0b\x05\x00\x01a\x02\x35\x0c\x00\x01a\x00\x05\x05\x02\x00\x00\x00\x09x\x62\x02\x00\x05\x50\x02\x00\x01\x70\x02\x00\x01"))
	f.Add([]byte("\x10\x13\x00\x04MQTT\x04\x06\x00\x00\x00\x01c\x00\x01a\x00\x01x" + hello))
	f.Fuzz(func(t *testing.T, data []byte) {
		b, err := demobroker.Start()
		if err != nil {
			t.Fatal(err)
		}
		defer b.Close()
		other := pipe(t, b)
		connect(t, other, "other", 0)
		bad := pipe(t, b)
		heard := make(chan error, 1)
		go func() {
			heard <- readAll(bad)
		}()
		_, _ = bad.Write(data)
		write(t, other, &packets.PingreqPacket{FixedHeader: fixed(packets.Pingreq, 0)})
		if p := read(t, other); p == nil {
			t.Error("the other client gets no answer")
		}
		bad.Close()
		if err := within(t, heard); err != io.EOF && err != io.ErrClosedPipe {
			t.Errorf("reading what the broker answers: %v", err)
		}
	})
}

// readAll reads packets until there are no more, of MQTT 3.1.1 if its CONNACK comes first.
func readAll(conn net.Conn) error {
	r := bufio.NewReader(conn)
	first, err := r.Peek(2)
	for old := err == nil && first[1] == 2; err == nil; {
		if old {
			_, err = packets.ReadPacket(r)
		} else {
			_, err = packets5.ReadPacket(r)
		}
	}
	return err
}

const patience = 10 * time.Second

func start(t *testing.T) *demobroker.Broker {
	t.Helper()
	b, err := demobroker.Start()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.Close)
	return b
}

// pipe is a connection to the broker without a buffer in between.
func pipe(t *testing.T, b *demobroker.Broker) net.Conn {
	client, server := net.Pipe()
	t.Cleanup(func() { client.Close() })
	b.Serve(server)
	return client
}

func dial(t *testing.T, addr string) net.Conn {
	t.Helper()
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

func fixed(kind, qos byte) packets.FixedHeader {
	return packets.FixedHeader{MessageType: kind, Qos: qos}
}

func connect(t *testing.T, c net.Conn, id string, keepAlive uint16) {
	t.Helper()
	write(t, c, &packets.ConnectPacket{FixedHeader: fixed(packets.Connect, 0), ProtocolName: "MQTT", ProtocolVersion: 4,
		CleanSession: true, ClientIdentifier: id, Keepalive: keepAlive})
	if ack, ok := read(t, c).(*packets.ConnackPacket); !ok || ack.ReturnCode != packets.Accepted || ack.SessionPresent {
		t.Fatalf("CONNECT is answered with %v", ack)
	}
}

func write(t *testing.T, c net.Conn, p packets.ControlPacket) {
	t.Helper()
	_ = c.SetWriteDeadline(time.Now().Add(patience))
	if err := p.Write(c); err != nil {
		t.Fatal(err)
	}
}

func read(t *testing.T, c net.Conn) packets.ControlPacket {
	t.Helper()
	_ = c.SetReadDeadline(time.Now().Add(patience))
	p, err := packets.ReadPacket(c)
	if err != nil {
		t.Fatal(err)
	}
	_ = c.SetReadDeadline(time.Time{})
	return p
}

func waitFor(t *testing.T, what string, is func() bool) {
	t.Helper()
	for began := time.Now(); !is(); time.Sleep(time.Millisecond) {
		if time.Since(began) > patience {
			t.Fatal("waited in vain for " + what)
		}
	}
}

func within[T any](t *testing.T, c <-chan T) T {
	t.Helper()
	select {
	case v, ok := <-c:
		if !ok {
			t.Fatal("it ended")
		}
		return v
	case <-time.After(patience):
		t.Fatal("nothing comes")
	}
	panic("unreachable")
}

func skipOrFail(t *testing.T, why string) {
	t.Helper()
	if os.Getenv("TOPICAST_NO_SKIP") == "1" {
		t.Fatalf("%s (no skip allowed: TOPICAST_NO_SKIP=1)", why)
	}
	t.Skip(why)
}
