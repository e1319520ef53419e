package session

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"crypto/sha1"
	"encoding/base64"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// acceptKey is what a server answers to the key of a client, RFC 6455 section 4.2.2.
func acceptKey(key string) string {
	sum := sha1.Sum([]byte(key + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"))
	return base64.StdEncoding.EncodeToString(sum[:])
}

// wsFrame is a frame as a server writes it.
func wsFrame(opcode byte, payload []byte) []byte {
	if len(payload) > 125 {
		panic("longer than it needs to be")
	}
	return append([]byte{0x80 | opcode, byte(len(payload))}, payload...)
}

const (
	wsText   = 1
	wsBinary = 2
	wsPing   = 9
	wsPong   = 10
)

// startOverWebsocket runs a session, in a bubble, to a server that has agreed to a
// WebSocket and accepted the CONNECT; then what it writes is the test's affair.
func startOverWebsocket(t *testing.T) (*client, net.Conn, *bufio.Reader) {
	server := make(chan net.Conn, 4)
	c := start(t, Options{URLs: []string{"ws://memory/mqtt"}}, func(s *Session) {
		s.open = func(ctx context.Context, u *url.URL) (net.Conn, error) {
			ours, theirs := net.Pipe()
			server <- theirs
			return openWebsocket(ctx, u, pipe{ours})
		}
	})
	conn := <-server
	t.Cleanup(func() { conn.Close() })
	r := bufio.NewReader(conn)
	request, err := http.ReadRequest(r)
	if err != nil {
		t.Fatal(err)
	}
	fmt.Fprintf(conn, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Protocol: mqtt\r\nSec-WebSocket-Accept: %s\r\n\r\n",
		acceptKey(request.Header.Get("Sec-WebSocket-Key")))
	head := make([]byte, 2+4) // with a mask
	if _, err := io.ReadFull(r, head); err != nil || head[0] != 0x80|wsBinary || head[1]&0x7f > 125 {
		t.Fatalf("CONNECT begins with % x, %v", head, err)
	}
	if _, err := io.CopyN(io.Discard, r, int64(head[1]&0x7f)); err != nil {
		t.Fatal(err)
	}
	if _, err := conn.Write(wsFrame(wsBinary, hello)); err != nil {
		t.Fatal(err)
	}
	c.reached("connected", connected)
	return c, conn, r
}

func TestMQTTInATextMessageIsRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, conn, r := startOverWebsocket(t)
		go io.Copy(io.Discard, r)
		go conn.Write(wsFrame(wsText, publish(qos0, "t", 0, "x")))
		c.reached("lost", lostWith("broker broke the protocol: MQTT in a WebSocket message of text, not of bytes [MQTT-6.0.0-1]"))
		if len(c.got) > 0 {
			t.Errorf("handed on %v", c.got)
		}
	})
}

// Its PONG waits for it to read, as all that is written does.
func TestABrokerThatPingsWithoutReadingIsGivenUpForThat(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, conn, _ := startOverWebsocket(t)
		begin := time.Now()
		go conn.Write(wsFrame(wsPing, []byte("x")))
		c.reached("lost", lostWith(errStalled.Error()))
		if d := time.Since(begin); d != writeTimeout {
			t.Errorf("noticed after %v", d)
		}
	})
}

func TestABrokerThatReadsLateGetsItsPong(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, conn, r := startOverWebsocket(t)
		go conn.Write(slices.Concat(wsFrame(wsPing, []byte("abc")), wsFrame(wsBinary, publish(qos0, "t", 0, "x"))))
		time.Sleep(writeTimeout - time.Second)
		frame := make([]byte, 2+4+3)
		if _, err := io.ReadFull(r, frame); err != nil || frame[0] != 0x80|wsPong {
			t.Fatalf("% x, %v", frame, err)
		}
		for i := range 3 {
			frame[6+i] ^= frame[2+i]
		}
		if !bytes.Equal(frame[6:], []byte("abc")) {
			t.Errorf("PONG of %q", frame[6:])
		}
		go io.Copy(io.Discard, r)
		c.messages(1)
	})
}

// They are read past inside of the library, and are no sign of life to MQTT.
func TestFramesWithoutMQTTEndTheConnection(t *testing.T) {
	for name, one := range map[string][]byte{
		"pings":           wsFrame(wsPing, []byte("x")),
		"pongs":           wsFrame(wsPong, nil),
		"empty messages":  wsFrame(wsBinary, nil),
		"empty fragments": slices.Concat([]byte{wsBinary, 0}, slices.Repeat([]byte{0, 0}, 100), []byte{0x80, 0}),
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c, conn, r := startOverWebsocket(t)
				go io.Copy(io.Discard, r)
				sent := 0
				for {
					n, err := conn.Write(one)
					if sent += n; err != nil {
						break
					}
					if sent > 4*maxFraming {
						t.Fatal("it goes on")
					}
				}
				c.reached("lost", lostWith(errFraming.Error()))
				if sent < maxFraming || sent > maxFraming+8<<10 {
					t.Errorf("after %d bytes", sent)
				}
			})
		})
	}
}

// A server may ping each second, and send each byte in a message of its own.
func TestFramesBesideMQTTAreNotHeldAgainstTheBroker(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, conn, r := startOverWebsocket(t)
		go io.Copy(io.Discard, r)
		write := func(b []byte) {
			if _, err := conn.Write(b); err != nil {
				t.Fatal(err)
			}
		}
		m := publish(qos0, "t", 0, "x")
		const n = 20_000
		for range n {
			for _, one := range m {
				write(wsFrame(wsBinary, []byte{one}))
			}
		}
		c.messages(n)
		for i := range 600 {
			write(wsFrame(wsPing, make([]byte, 125)))
			if time.Sleep(time.Second); i%15 == 0 {
				write(wsFrame(wsBinary, pingResponse))
			}
		}
		if s := c.State(); s.Connects != 1 || !s.Connected {
			t.Errorf("%+v", s)
		}
	})
}

func TestAServerThatAgreesWronglyIsSaidTo(t *testing.T) {
	const right = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Protocol: mqtt\r\nSec-WebSocket-Accept: KEY\r\n\r\n"
	for _, tt := range []struct{ old, by, want string }{
		{"KEY", acceptKey("of another"), "its Sec-WebSocket-Accept is not the answer to our key"},
		{"Sec-WebSocket-Accept: KEY\r\n", "", "without Sec-WebSocket-Accept"},
		{"Upgrade: websocket\r\n", "", "without Upgrade: websocket"},
		{"Connection: Upgrade", "Connection: close", "without Connection: Upgrade"},
		{"", "", ""},
	} {
		t.Run(cmp.Or(tt.want, "rightly"), func(t *testing.T) {
			ours, theirs := net.Pipe()
			defer theirs.Close()
			go func() {
				request, err := http.ReadRequest(bufio.NewReader(theirs))
				if err == nil {
					answer := strings.Replace(right, tt.old, tt.by, 1)
					_, _ = io.WriteString(theirs, strings.Replace(answer, "KEY", acceptKey(request.Header.Get("Sec-WebSocket-Key")), 1))
				}
			}()
			conn, err := openWebsocket(t.Context(), &url.URL{Scheme: "ws", Host: "broker:80"}, ours)
			if tt.want == "" {
				if err != nil {
					t.Fatal(err)
				}
				conn.Close()
				return
			}
			if err == nil || !strings.Contains(err.Error(), "not as one does (RFC 6455, 4.1): "+tt.want+"; a proxy") {
				t.Error(err)
			}
		})
	}
}
