package session

import (
	"crypto/tls"
	"crypto/x509"
	"net"
	"net/url"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/net/dns/dnsmessage"
)

// srv has names resolved by a server that knows the SRV records of broker.example, and the hosts of
// hosts.example, which are all 127.0.0.1.
func srv(t *testing.T, records ...dnsmessage.SRVResource) {
	pc, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { pc.Close() })
	go func() {
		b := make([]byte, 512)
		for {
			n, from, err := pc.ReadFrom(b)
			if err != nil {
				return
			}
			var m dnsmessage.Message
			if m.Unpack(b[:n]) != nil || len(m.Questions) != 1 {
				continue
			}
			q := m.Questions[0]
			m.Response, m.RecursionAvailable, m.Additionals = true, true, nil
			h := dnsmessage.ResourceHeader{Name: q.Name, Class: dnsmessage.ClassINET}
			switch name := q.Name.String(); {
			case q.Type == dnsmessage.TypeSRV && (name == "_mqtt._tcp.broker.example." || name == "_secure-mqtt._tcp.broker.example."):
				for i := range records {
					m.Answers = append(m.Answers, dnsmessage.Resource{Header: h, Body: &records[i]})
				}
			case q.Type == dnsmessage.TypeA && strings.HasSuffix(name, ".hosts.example."):
				m.Answers = append(m.Answers, dnsmessage.Resource{Header: h, Body: &dnsmessage.AResource{A: [4]byte{127, 0, 0, 1}}})
			case !strings.HasSuffix(name, ".hosts.example."):
				m.RCode = dnsmessage.RCodeNameError
			}
			if out, err := m.Pack(); err == nil {
				_, _ = pc.WriteTo(out, from)
			}
		}
	}()
	resolveBy(t, pc.LocalAddr().String())
}

func record(t *testing.T, priority uint16, target, address string) dnsmessage.SRVResource {
	_, text, err := net.SplitHostPort(address)
	if err != nil {
		t.Fatal(err)
	}
	port, err := strconv.ParseUint(text, 10, 16)
	if err != nil {
		t.Fatal(err)
	}
	return dnsmessage.SRVResource{Priority: priority, Port: uint16(port), Target: dnsmessage.MustNewName(target)}
}

// nobodyAt is an address where nobody listens.
func nobodyAt(t *testing.T) string {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	return ln.Addr().String()
}

func TestSRVRecordsSayWhereTheBrokersAre(t *testing.T) {
	b := newBroker(t)
	u, _ := url.Parse(b.url())
	srv(t, record(t, 20, "spare.hosts.example.", nobodyAt(t)), record(t, 10, "second.hosts.example.", u.Host), record(t, 5, "first.hosts.example.", nobodyAt(t)))
	c := start(t, Options{URLs: []string{"mqtt+srv://broker.example"}})
	b.greet(false, 0)
	if s := c.reached("connected", connected); s.Broker != "mqtt+srv://broker.example" {
		t.Errorf("connected to %s", s.Broker)
	}
	c.stop()
}

// The certificate is held to the name that was asked for: who answers for the records could
// name any host.
func TestTheCertificateIsForTheNameAndNotForTheHostOfARecord(t *testing.T) {
	ca := newAuthority(t)
	pool := x509.NewCertPool()
	pool.AddCert(ca.cert)
	for name, good := range map[string]bool{"broker.example": true, "one.hosts.example": false} {
		b := newBroker(t)
		u, _ := url.Parse(b.url())
		host := listenWith(t, func(conn net.Conn) {
			over := tls.Server(conn, &tls.Config{Certificates: []tls.Certificate{ca.issue(t, name)}})
			if over.Handshake() == nil {
				pass(over, over, u.Host, func() {})
			}
		})
		srv(t, record(t, 0, "one.hosts.example.", host))
		c := start(t, Options{URLs: []string{"mqtts+srv://broker.example"}, TLS: func(string) (*tls.Config, error) { return &tls.Config{RootCAs: pool}, nil }})
		if good {
			b.greet(false, 0)
			c.reached("connected", connected)
		} else {
			c.reached("explained", lostWith(`the broker's certificate is not for "broker.example", but for one.hosts.example`))
		}
		c.stop()
	}
}

func TestWhatIsWrongWithSRVRecordsIsNamed(t *testing.T) {
	nobody := nobodyAt(t)
	srv(t, record(t, 1, "one.hosts.example.", nobody), record(t, 2, "two.hosts.example.", nobody))
	for name, want := range map[string]string{
		"broker.example":  "none of the 2 hosts that the SRV records of broker.example name answers (the last, two.hosts.example:",
		"another.example": `DNS has no SRV record for "_mqtt._tcp.another.example"; write mqtt:// or mqtts:// and the broker's host`,
	} {
		c := start(t, Options{URLs: []string{"mqtt+srv://" + name}})
		text := c.reached("failed", func(s State) bool { return s.LastErr != "" }).LastErr
		if !strings.Contains(text, want) || name == "broker.example" && !strings.Contains(text, "; nothing listens there") {
			t.Errorf("%s; want %s", text, want)
		}
		c.stop()
	}
}
