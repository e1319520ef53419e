package harness

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"time"

	"github.com/eclipse/paho.mqtt.golang/packets"

	"topicast/internal/lab/netlab"
)

// answerWithin is how long a broker that stands still may take to accept a client.
const answerWithin = 2 * time.Second

// Dial connects to a broker from a host.
func Dial(ctx context.Context, h *netlab.Host, address string) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, answerWithin)
	defer cancel()
	return h.Dial(ctx, "tcp", address)
}

// A Client is one connection of an MQTT 3.1.1 client with the broker. It is not
// bridge/session: the clients are not to share code with what they judge.
type Client struct {
	net.Conn
	in *bufio.Reader
}

// Connect introduces a client, without keep-alive. It closes conn if that fails.
func Connect(conn net.Conn, id string, clean bool) (*Client, error) {
	c := &Client{conn, bufio.NewReaderSize(conn, 64<<10)}
	if err := c.connect(id, clean); err != nil {
		conn.Close()
		return nil, fmt.Errorf("connect %s: %w", id, err)
	}
	return c, nil
}

func (c *Client) connect(id string, clean bool) error {
	if err := c.SetDeadline(time.Now().Add(answerWithin)); err != nil {
		return err
	}
	hello := packets.NewControlPacket(packets.Connect).(*packets.ConnectPacket)
	hello.ProtocolName, hello.ProtocolVersion = "MQTT", 4
	hello.ClientIdentifier, hello.CleanSession = id, clean
	if err := hello.Write(c); err != nil {
		return err
	}
	p, err := c.Next()
	if err != nil {
		return err
	}
	answer, ok := p.(*packets.ConnackPacket)
	if !ok {
		return fmt.Errorf("not CONNACK came, but %v", p)
	}
	if answer.ReturnCode != packets.Accepted {
		return fmt.Errorf("refused: %d %s", answer.ReturnCode, packets.ConnackReturnCodes[answer.ReturnCode])
	}
	return c.SetDeadline(time.Time{})
}

// Next reads a packet.
func (c *Client) Next() (packets.ControlPacket, error) { return packets.ReadPacket(c.in) }

// Subscribe asks for the messages of a filter; the answer is left to be read.
func (c *Client) Subscribe(filter string, qos byte) error {
	p := packets.NewControlPacket(packets.Subscribe).(*packets.SubscribePacket)
	p.MessageID, p.Topics, p.Qoss = 1, []string{filter}, []byte{qos}
	return p.Write(c)
}
