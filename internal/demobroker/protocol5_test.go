package demobroker_test

import (
	"io"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/eclipse/paho.golang/packets"

	"topicast/internal/demobroker"
)

// Hand-made packets of MQTT 5, and what the broker answers to them.
func TestEachPacketOfMQTT5IsAnsweredAsTheStandardSays(t *testing.T) {
	const (
		hello     = "\x10\x0e\x00\x04MQTT\x05\x02\x00\x00\x00\x00\x01c"
		terms     = "\x27\x00\x04\x00\x00\x2a\x00" // Maximum Packet Size, no shared subscriptions
		welcome   = "\x20\x0a\x00\x00\x07" + terms
		subscribe = "\x82\x07\x00\x07\x00\x00\x01a\x02"
		granted   = "\x90\x04\x00\x07\x00\x02"
		publish1  = "\x32\x07\x00\x01a\x00\x05\x00x" // on a, with identifier 5
		puback    = "\x40\x04\x00\x05\x00\x00"
	)
	goodbye := func(code string) string { return "\xe0\x02" + code + "\x00" }
	for name, c := range map[string]struct{ sends, want, end string }{
		"ping":                    {hello + "\xc0\x00", welcome + "\xd0\x00", ""},
		"a session is asked for":  {"\x10\x13\x00\x04MQTT\x05\x00\x00\x00\x05\x11\xff\xff\xff\xff\x00\x01c", "\x20\x0f\x00\x00\x0c" + "\x27\x00\x04\x00\x00\x2a\x00\x11\x00\x00\x00\x00", ""},
		"authentication":          {"\x10\x12\x00\x04MQTT\x05\x02\x00\x00\x04\x15\x00\x01x\x00\x01c", "\x20\x03\x00\x8c\x00", "closed"},
		"the reserved flag":       {"\x10\x0e\x00\x04MQTT\x05\x03\x00\x00\x00\x00\x01c", "\x20\x03\x00\x81\x00", "closed"},
		"a will that is not":      {"\x10\x0e\x00\x04MQTT\x05\x0a\x00\x00\x00\x00\x01c", "\x20\x03\x00\x81\x00", "closed"},
		"a will with wildcards":   {"\x10\x15\x00\x04MQTT\x05\x06\x00\x00\x00\x00\x01c\x00\x00\x01#\x00\x01x", "\x20\x03\x00\x90\x00", "closed"},
		"Receive Maximum 0":       {"\x10\x11\x00\x04MQTT\x05\x02\x00\x00\x03\x21\x00\x00\x00\x01c", "\x20\x03\x00\x82\x00", "closed"},
		"properties beyond":       {"\x10\x0e\x00\x04MQTT\x05\x02\x00\x00\x09\x00\x01c", "\x20\x03\x00\x81\x00", "closed"},
		"another protocol":        {"\x10\x0e\x00\x04MQTX\x05\x02\x00\x00\x00\x00\x01c", "", "closed"},
		"no UTF-8":                {"\x10\x0e\x00\x04MQTT\x05\x02\x00\x00\x00\x00\x01\xff", "\x20\x03\x00\x81\x00", "closed"},
		"CONNECT twice":           {hello + hello, welcome + goodbye("\x82"), "closed"},
		"AUTH":                    {hello + "\xf0\x00", welcome + goodbye("\x82"), "closed"},
		"DISCONNECT":              {hello + "\xe0\x00", welcome, "closed"},
		"DISCONNECT with a code":  {hello + "\xe0\x01\x04", welcome, "closed"},
		"SUBSCRIBE":               {hello + subscribe, welcome + granted, ""},
		"what is no filter":       {hello + "\x82\x0c\x00\x07\x00\x00\x01a\x01\x00\x02a#\x01", welcome + "\x90\x05\x00\x07\x00\x01\x8f", ""},
		"a shared subscription":   {hello + "\x82\x10\x00\x07\x00\x00\x0a$share/g/a\x01", welcome + "\x90\x04\x00\x07\x00\x9e", ""},
		"SUBSCRIBE with QoS 3":    {hello + "\x82\x07\x00\x07\x00\x00\x01a\x03", welcome + goodbye("\x82"), "closed"},
		"Retain Handling 3":       {hello + "\x82\x07\x00\x07\x00\x00\x01a\x30", welcome + goodbye("\x82"), "closed"},
		"subscription id 0":       {hello + "\x82\x09\x00\x07\x02\x0b\x00\x00\x01a\x00", welcome + goodbye("\x82"), "closed"},
		"SUBSCRIBE by 0":          {hello + "\x82\x07\x00\x00\x00\x00\x01a\x02", welcome + goodbye("\x82"), "closed"},
		"UNSUBSCRIBE by 0":        {hello + "\xa2\x06\x00\x00\x00\x00\x01a", welcome + goodbye("\x82"), "closed"},
		"UNSUBSCRIBE":             {hello + subscribe + "\xa2\x09\x00\x08\x00\x00\x01a\x00\x01b", welcome + granted + "\xb0\x05\x00\x08\x00\x00\x11", ""},
		"nobody subscribes":       {hello + publish1, welcome + "\x40\x04\x00\x05\x10\x00", ""},
		"QoS 1":                   {hello + subscribe + publish1, welcome + granted + "\x32\x07\x00\x01a\x00\x01\x00x" + puback, ""},
		"QoS 2":                   {hello + subscribe + "\x34\x07\x00\x01a\x00\x05\x00x\x62\x02\x00\x05", welcome + granted + "\x34\x07\x00\x01a\x00\x01\x00x\x50\x03\x00\x05\x00\x70\x03\x00\x05\x00", ""},
		"PUBREL without PUBLISH":  {hello + "\x62\x02\x00\x05", welcome + "\x70\x03\x00\x05\x92", ""},
		"PUBREC without PUBLISH":  {hello + "\x50\x02\x00\x01", welcome + "\x62\x03\x00\x01\x92", ""},
		"PUBREC that refuses":     {hello + subscribe + "\x34\x07\x00\x01a\x00\x05\x00x\x50\x03\x00\x01\x97", welcome + granted + "\x34\x07\x00\x01a\x00\x01\x00x\x50\x03\x00\x05\x00", ""},
		"No Local":                {hello + "\x82\x07\x00\x07\x00\x00\x01a\x05" + publish1, welcome + "\x90\x04\x00\x07\x00\x01\x40\x04\x00\x05\x10\x00", ""},
		"an identifier":           {hello + "\x82\x09\x00\x07\x02\x0b\x09\x00\x01a\x00" + publish1, welcome + "\x90\x04\x00\x07\x00\x00\x30\x07\x00\x01a\x02\x0b\x09x" + puback, ""},
		"retained":                {hello + "\x31\x05\x00\x01a\x00x" + "\x82\x07\x00\x07\x00\x00\x01a\x00", welcome + "\x90\x04\x00\x07\x00\x00\x31\x05\x00\x01a\x00x", ""},
		"retained, not asked for": {hello + "\x31\x05\x00\x01a\x00x" + "\x82\x07\x00\x07\x00\x00\x01a\x20", welcome + "\x90\x04\x00\x07\x00\x00", ""},
		"retained, if new": {hello + "\x31\x05\x00\x01a\x00x" + strings.Repeat("\x82\x07\x00\x07\x00\x00\x01a\x10", 2),
			welcome + "\x90\x04\x00\x07\x00\x00\x31\x05\x00\x01a\x00x\x90\x04\x00\x07\x00\x00", ""},
		"Retain As Published":           {hello + "\x82\x07\x00\x07\x00\x00\x01a\x08\x31\x05\x00\x01a\x00x", welcome + "\x90\x04\x00\x07\x00\x00\x31\x05\x00\x01a\x00x", ""},
		"retained, and expired":         {hello + "\x31\x0a\x00\x01a\x05\x02\x00\x00\x00\x00x" + "\x82\x07\x00\x07\x00\x00\x01a\x00", welcome + "\x90\x04\x00\x07\x00\x00", ""},
		"a topic alias":                 {hello + "\x30\x08\x00\x01a\x03\x23\x00\x01x", welcome + goodbye("\x94"), "closed"},
		"an identifier of a client":     {hello + "\x30\x07\x00\x01a\x02\x0b\x01x", welcome + goodbye("\x82"), "closed"},
		"a topic with a wildcard":       {hello + "\x30\x05\x00\x01#\x00x", welcome + goodbye("\x90"), "closed"},
		"a response topic with one":     {hello + "\x30\x09\x00\x01a\x04\x08\x00\x01#x", welcome + goodbye("\x90"), "closed"},
		"a content type without UTF-8":  {hello + "\x30\x09\x00\x01a\x04\x03\x00\x01\xffx", welcome + goodbye("\x81"), "closed"},
		"a user property with NUL":      {hello + "\x30\x0c\x00\x01a\x07\x26\x00\x01a\x00\x01\x00x", welcome + goodbye("\x81"), "closed"},
		"a payload format of 2":         {hello + "\x30\x07\x00\x01a\x02\x01\x02x", welcome + goodbye("\x99"), "closed"},
		"properties beyond the message": {hello + "\x30\x06\x00\x01a\x09\x01\x00", welcome + goodbye("\x81"), "closed"},
		"QoS 3":                         {hello + "\x36\x07\x00\x01a\x00\x05\x00x", welcome + goodbye("\x81"), "closed"},
		"packet identifier 0":           {hello + "\x32\x07\x00\x01a\x00\x00\x00x", welcome + goodbye("\x82"), "closed"},
		"a packet above the limit":      {hello + "\x30\x81\x80\x10", welcome + goodbye("\x95"), "closed"},
	} {
		t.Run(name, func(t *testing.T) { exchange(t, c.sends, c.want, c.end == "closed") })
	}
}

// Where filters overlap a message comes once for each identifier, and else once.
func TestAMessageComesOnceForEachSubscriptionIdentifier(t *testing.T) {
	c := join5(t, start(t), &packets.Connect{ClientID: "c"})
	for filter, id := range map[string]int{"a/+": 1, "+/b": 2, "#": 2, "a/#": 0, "a/b": 0} {
		props := new(packets.Properties)
		if id > 0 {
			props.SubscriptionIdentifier = &id
		}
		c.write(&packets.Subscribe{PacketID: 1, Properties: props, Subscriptions: []packets.SubOptions{{Topic: filter}}})
		c.read()
	}
	c.write(&packets.Publish{Topic: "a/b", Properties: new(packets.Properties)})
	c.write(new(packets.Pingreq))
	var got []int
	for {
		m, ok := c.read().(*packets.Publish)
		if !ok {
			break
		}
		id := 0
		if m.Properties.SubscriptionIdentifier != nil {
			id = *m.Properties.SubscriptionIdentifier
		}
		got = append(got, id)
	}
	slices.Sort(got)
	if want := []int{0, 1, 2}; !slices.Equal(got, want) {
		t.Errorf("it comes for the identifiers %v, want %v", got, want)
	}
}

func TestAClientWithoutIdentifierIsGivenOne(t *testing.T) {
	c := join5(t, start(t), &packets.Connect{})
	if c.answer.Properties.AssignedClientID == "" {
		t.Errorf("it gets none: %v", c.answer)
	}
}

// A client that says how many it takes at once gets no more until it acknowledges, and then the rest.
func TestNoMoreMessagesAreInFlightThanAClientTakes(t *testing.T) {
	b := start(t)
	sub := join5(t, b, &packets.Connect{ClientID: "sub", Properties: &packets.Properties{ReceiveMaximum: new(uint16(2))}})
	sub.subscribe(packets.SubOptions{Topic: "a", QoS: 1})
	pub := join5(t, b, &packets.Connect{ClientID: "pub"})
	for i := range 5 {
		pub.write(&packets.Publish{Topic: "a", Payload: []byte{'0' + byte(i)}, QoS: 1, PacketID: uint16(i + 1), Properties: new(packets.Properties)})
		pub.read()
	}
	for i := range 5 {
		if i%2 == 0 && i < 4 {
			a, b := sub.read().(*packets.Publish), sub.read().(*packets.Publish)
			if sub.write(new(packets.Pingreq)); string(a.Payload)+string(b.Payload) != string([]byte{'0' + byte(i), '1' + byte(i)}) {
				t.Errorf("%s and %s come", a.Payload, b.Payload)
			}
			if _, ok := sub.read().(*packets.Pingresp); !ok {
				t.Fatal("more come than it takes")
			}
			sub.write(&packets.Puback{PacketID: a.PacketID})
			sub.write(&packets.Puback{PacketID: b.PacketID})
		}
	}
	if last := sub.read().(*packets.Publish); string(last.Payload) != "4" {
		t.Errorf("the last is %s", last.Payload)
	}
}

func TestAMessageThatIsTooLargeForAClientIsLeftOut(t *testing.T) {
	b := start(t)
	c := join5(t, b, &packets.Connect{ClientID: "c", Properties: &packets.Properties{MaximumPacketSize: new(uint32(20))}})
	c.subscribe(packets.SubOptions{Topic: "a"})
	for _, payload := range []string{strings.Repeat("x", 20-6+1), strings.Repeat("y", 20-6)} {
		c.write(&packets.Publish{Topic: "a", Payload: []byte(payload), Properties: new(packets.Properties)})
	}
	if m := c.read().(*packets.Publish); m.Payload[0] != 'y' {
		t.Errorf("comes %q", m.Payload)
	}
}

// What a retained message waited at the broker is taken off its expiry.
func TestTheExpiryOfARetainedMessageRunsAtTheBroker(t *testing.T) {
	b := start(t)
	c := join5(t, b, &packets.Connect{ClientID: "c"})
	c.write(&packets.Publish{Topic: "a", Payload: []byte("x"), Retain: true, Properties: &packets.Properties{MessageExpiry: new(uint32(60))}})
	c.write(new(packets.Pingreq))
	c.read()
	time.Sleep(1100 * time.Millisecond) // whole seconds
	c.subscribe(packets.SubOptions{Topic: "a"})
	if e := c.read().(*packets.Publish).Properties.MessageExpiry; e == nil || *e > 59 || *e < 50 {
		t.Errorf("it is good for %v s more, want 59", e)
	}
}

func TestTheClientWhoseIdentifierIsTakenOverIsTold(t *testing.T) {
	b := start(t)
	// By hand: paho's packets write few of the properties of a will. This one has a delay of 60 s and a content type.
	first := &client5{t: t, conn: pipe(t, b)}
	if _, err := io.WriteString(first.conn, "\x10\x22\x00\x04MQTT\x05\x06\x00\x00\x00\x00\x02me\x09\x18\x00\x00\x00\x3c\x03\x00\x01t\x00\x04gone\x00\x01x"); err != nil {
		t.Fatal(err)
	}
	first.read()
	watch := join5(t, b, &packets.Connect{ClientID: "watch"})
	watch.subscribe(packets.SubOptions{Topic: "gone"})
	join5(t, b, &packets.Connect{ClientID: "me"})
	if d, ok := first.read().(*packets.Disconnect); !ok || d.ReasonCode != packets.DisconnectSessionTakenOver {
		t.Errorf("it is told %v", d)
	}
	// Its session is over with it, and so is the delay.
	if m, ok := watch.read().(*packets.Publish); !ok || m.Properties.ContentType != "t" {
		t.Errorf("its will: %v", m)
	}
}

func TestADisconnectCanAskForTheWill(t *testing.T) {
	for code, want := range map[byte]string{packets.DisconnectNormalDisconnection: "y", packets.DisconnectDisconnectWithWillMessage: "x"} {
		b := start(t)
		watch := join5(t, b, &packets.Connect{ClientID: "watch"})
		watch.subscribe(packets.SubOptions{Topic: "#"})
		c := join5(t, b, &packets.Connect{ClientID: "c", WillFlag: true, WillTopic: "will", WillMessage: []byte("x"), WillProperties: new(packets.Properties)})
		c.write(&packets.Disconnect{ReasonCode: code})
		waitFor(t, "it to be gone", func() bool { return b.Clients() == 1 })
		watch.write(&packets.Publish{Topic: "end", Payload: []byte("y"), Properties: new(packets.Properties)})
		if m := watch.read().(*packets.Publish); string(m.Payload) != want {
			t.Errorf("after DISCONNECT with code %d comes %s, want %s", code, m.Payload, want)
		}
	}
}

func TestAClientThatIsSilentForTooLongIsTold(t *testing.T) {
	c := join5(t, start(t), &packets.Connect{ClientID: "c", KeepAlive: 1})
	if d, ok := c.read().(*packets.Disconnect); !ok || d.ReasonCode != packets.DisconnectKeepAliveTimeout {
		t.Errorf("it is told %v", d)
	}
}

// A client5 is a connection of MQTT 5.
type client5 struct {
	t      *testing.T
	conn   net.Conn
	answer *packets.Connack
}

func join5(t *testing.T, b *demobroker.Broker, hello *packets.Connect) *client5 {
	t.Helper()
	c := &client5{t: t, conn: pipe(t, b)}
	hello.ProtocolName, hello.ProtocolVersion, hello.CleanStart = "MQTT", 5, true
	if hello.Properties == nil {
		hello.Properties = new(packets.Properties)
	}
	c.write(hello)
	answer, ok := c.read().(*packets.Connack)
	if !ok || answer.ReasonCode != 0 {
		t.Fatalf("CONNECT is answered with %v", answer)
	}
	c.answer = answer
	return c
}

func (c *client5) subscribe(o packets.SubOptions) {
	c.t.Helper()
	c.write(&packets.Subscribe{PacketID: 1, Subscriptions: []packets.SubOptions{o}, Properties: new(packets.Properties)})
	if ack, ok := c.read().(*packets.Suback); !ok || ack.Reasons[0] > 2 {
		c.t.Fatalf("SUBSCRIBE is answered with %v", ack)
	}
}

func (c *client5) write(p packets.Packet) {
	c.t.Helper()
	_ = c.conn.SetWriteDeadline(time.Now().Add(patience))
	if _, err := p.WriteTo(c.conn); err != nil {
		c.t.Fatal(err)
	}
}

func (c *client5) read() packets.Packet {
	c.t.Helper()
	_ = c.conn.SetReadDeadline(time.Now().Add(patience))
	p, err := packets.ReadPacket(c.conn)
	if err != nil {
		c.t.Fatal(err)
	}
	return p.Content
}
