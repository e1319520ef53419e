package broker_test

import (
	"bytes"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	mqtt "github.com/eclipse/paho.mqtt.golang"
	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"topicast/bridge/broker"
)

// patience is how long a test waits for what must come.
const patience = 10 * time.Second

func TestMessageArrivesByteForByte(t *testing.T) {
	b := start(t, broker.Options{})
	payloads := [][]byte{
		{},
		{0x11, 0x00, 0xff, '\n'},
		bytes.Repeat([]byte{0xa5}, 65507),
	}
	for qos := range byte(3) {
		t.Run(fmt.Sprint("QoS ", qos), func(t *testing.T) {
			sub := connect(t, b, "sub", true)
			sub.subscribe(t, "site/+/lamp", qos)
			pub := connect(t, b, "pub", true)
			for _, want := range payloads {
				pub.publish(t, "site/7/lamp", qos, want)
				m := sub.receive(t)
				if m.Topic() != "site/7/lamp" || m.Qos() != qos || !bytes.Equal(m.Payload(), want) {
					t.Errorf("got %s, QoS %d, %d bytes; want site/7/lamp, QoS %d, the %d bytes sent",
						m.Topic(), m.Qos(), len(m.Payload()), qos, len(want))
				}
			}
		})
	}
}

func TestPersistentSessionResumes(t *testing.T) {
	b := start(t, broker.Options{})
	sub := connect(t, b, "gateway", false)
	sub.subscribe(t, "site/#", 1)
	sub.leave(t, b)

	want := publishMany(t, b, 200)

	sub = connect(t, b, "gateway", false)
	if !sub.sessionPresent {
		t.Error("connected again: session not present, want present")
	}
	if diff := cmp.Diff(want, sub.receiveMany(t, len(want))); diff != "" {
		t.Errorf("what was published meanwhile (-want +got):\n%s", diff)
	}
}

func TestStoreDirOutlivesTheBroker(t *testing.T) {
	dir := t.TempDir()
	b := start(t, broker.Options{StoreDir: dir})
	sub := connect(t, b, "gateway", false)
	sub.subscribe(t, "site/#", 1)
	sub.leave(t, b)
	want := publishMany(t, b, 20)
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}

	b = start(t, broker.Options{StoreDir: dir})
	sub = connect(t, b, "gateway", false)
	if diff := cmp.Diff(want, sub.receiveMany(t, len(want))); diff != "" {
		t.Errorf("after the restart (-want +got):\n%s", diff)
	}
}

func TestCloseLeavesNothing(t *testing.T) {
	tmp := privateTemp(t)
	before := goleak.IgnoreCurrent()

	b := start(t, broker.Options{})
	if len(tempFiles(t, tmp)) != 1 {
		t.Fatalf("store not among the temporary files: %q", tempFiles(t, tmp))
	}
	// One client stays connected, with a session that holds a message.
	sub := connect(t, b, "gateway", false)
	sub.subscribe(t, "site/#", 2)
	publishMany(t, b, 1)
	sub.receive(t)

	for range 2 { // the second call has nothing to do
		if err := b.Close(); err != nil {
			t.Fatal(err)
		}
	}
	select {
	case <-sub.lost:
	case <-time.After(patience):
		t.Error("client still connected after Close")
	}
	if files := tempFiles(t, tmp); len(files) != 0 {
		t.Errorf("left among the temporary files: %q", files)
	}
	goleak.VerifyNone(t, before)
}

func TestStartSaysWhyItCannot(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}

	tests := []struct {
		name    string
		options broker.Options
		want    []string // parts of the error
	}{
		{"no port", broker.Options{Listen: "127.0.0.1"}, []string{`"127.0.0.1"`, "missing port"}},
		{"address in use", broker.Options{Listen: taken.Addr().String()}, []string{taken.Addr().String(), "in use"}},
		{"address of another host", broker.Options{Listen: "192.0.2.77:0"}, []string{"192.0.2.77:0", "assign"}},
		{"store is a file", broker.Options{StoreDir: file}, []string{file}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			tmp := privateTemp(t)
			before := goleak.IgnoreCurrent()
			b, err := broker.Start(tt.options)
			if err == nil {
				b.Close()
				t.Fatal("started")
			}
			for _, part := range tt.want {
				if !strings.Contains(err.Error(), part) {
					t.Errorf("error %q does not tell %q", err, part)
				}
			}
			if files := tempFiles(t, tmp); len(files) != 0 {
				t.Errorf("left among the temporary files: %q", files)
			}
			goleak.VerifyNone(t, before)
		})
	}
}

func start(t *testing.T, o broker.Options) *broker.Broker {
	t.Helper()
	b, err := broker.Start(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { b.Close() })
	return b
}

// A client is one connection that does not come back by itself.
type client struct {
	mqtt.Client
	sessionPresent bool
	messages       chan mqtt.Message
	lost           chan struct{}
}

func connect(t *testing.T, b *broker.Broker, id string, clean bool) *client {
	t.Helper()
	c := &client{messages: make(chan mqtt.Message, 1000), lost: make(chan struct{})}
	c.Client = mqtt.NewClient(mqtt.NewClientOptions().
		AddBroker(b.URL()).
		SetClientID(id).
		SetProtocolVersion(4).
		SetCleanSession(clean).
		SetAutoReconnect(false).
		SetDefaultPublishHandler(func(_ mqtt.Client, m mqtt.Message) { c.messages <- m }).
		SetConnectionLostHandler(func(mqtt.Client, error) { close(c.lost) }))
	token := c.Connect().(*mqtt.ConnectToken)
	wait(t, token)
	c.sessionPresent = token.SessionPresent()
	t.Cleanup(func() { c.Disconnect(0) })
	return c
}

// leave disconnects, and returns when the broker knows. What it sends to a client
// that is about to be gone comes again only after 30 s.
func (c *client) leave(t *testing.T, b *broker.Broker) {
	t.Helper()
	c.Disconnect(0)
	for began := time.Now(); b.Clients() > 0; time.Sleep(time.Millisecond) {
		if time.Since(began) > patience {
			t.Fatal("the broker still counts the client as connected")
		}
	}
}

func (c *client) subscribe(t *testing.T, filter string, qos byte) {
	t.Helper()
	token := c.Subscribe(filter, qos, nil).(*mqtt.SubscribeToken)
	wait(t, token)
	if diff := cmp.Diff(map[string]byte{filter: qos}, token.Result()); diff != "" {
		t.Fatalf("granted (-want +got):\n%s", diff)
	}
}

func (c *client) publish(t *testing.T, topic string, qos byte, payload []byte) {
	t.Helper()
	wait(t, c.Publish(topic, qos, false, payload))
}

func (c *client) receive(t *testing.T) mqtt.Message {
	t.Helper()
	select {
	case m := <-c.messages:
		return m
	case <-time.After(patience):
		t.Fatal("no message")
		return nil
	}
}

func (c *client) receiveMany(t *testing.T, n int) []string {
	t.Helper()
	var got []string
	for range n {
		got = append(got, string(c.receive(t).Payload()))
	}
	return got
}

// publishMany publishes n numbered messages below site/ and returns their
// payloads, in order.
func publishMany(t *testing.T, b *broker.Broker, n int) []string {
	t.Helper()
	pub := connect(t, b, "pub", true)
	defer pub.Disconnect(0)
	var sent []string
	for i := range n {
		sent = append(sent, fmt.Sprint(i))
		pub.publish(t, fmt.Sprint("site/", i%3), 1, []byte(sent[i]))
	}
	return sent
}

func wait(t *testing.T, token mqtt.Token) {
	t.Helper()
	if !token.WaitTimeout(patience) {
		t.Fatal("no answer from the broker")
	}
	if err := token.Error(); err != nil {
		t.Fatal(err)
	}
}

// privateTemp gives the test a directory for temporary files of its own.
func privateTemp(t *testing.T) string {
	dir := t.TempDir()
	for _, name := range []string{"TMPDIR", "TMP", "TEMP"} { // Unix, Windows
		t.Setenv(name, dir)
	}
	return dir
}

func tempFiles(t *testing.T, dir string) []string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "*"))
	if err != nil {
		t.Fatal(err)
	}
	return files
}
