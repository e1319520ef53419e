package session

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	mqtt "github.com/eclipse/paho.mqtt.golang"
)

// skip skips a test, or fails it where the machine is meant to run all.
func skip(t *testing.T, why string) {
	t.Helper()
	if os.Getenv("TOPICAST_NO_SKIP") == "1" {
		t.Fatalf("%s (no skip allowed: TOPICAST_NO_SKIP=1)", why)
	}
	t.Skip(why)
}

// mosquitto starts a broker with a configuration in which PORT stands for a free
// port, and returns that port.
func mosquitto(t *testing.T, config string) (port string) {
	t.Helper()
	return newMosquitto(t, "persistence false\n"+config).port
}

// A mosquittoBroker is a broker process, which can be ended and started again.
type mosquittoBroker struct {
	t          *testing.T
	path       string
	file, port string
	stop       func(os.Signal)
}

func newMosquitto(t *testing.T, config string) *mosquittoBroker {
	t.Helper()
	path, err := exec.LookPath("mosquitto")
	if err != nil {
		path = "/usr/sbin/mosquitto" // not in the search path of users
	}
	if _, err := os.Stat(path); err != nil {
		skip(t, "mosquitto is not installed")
	}
	dir := t.TempDir()
	b := &mosquittoBroker{t: t, path: path, file: filepath.Join(dir, "mosquitto.conf"), port: freePort(t)}
	config = "user root\npersistence_location " + dir + "/\n" + strings.ReplaceAll(config, "PORT", b.port)
	if err := os.WriteFile(b.file, []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	b.start()
	t.Cleanup(func() { b.stop(os.Kill) })
	return b
}

// start starts the process and waits until it says that it runs.
func (b *mosquittoBroker) start() {
	b.t.Helper()
	cmd := exec.Command(b.path, "-c", b.file)
	stderr, err := cmd.StderrPipe()
	if err != nil {
		b.t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		b.t.Fatal(err)
	}
	running := make(chan struct{})
	ended := make(chan struct{})
	var lines []string
	go func() {
		defer close(ended)
		for s := bufio.NewScanner(stderr); s.Scan(); {
			lines = append(lines, s.Text())
			if strings.HasSuffix(s.Text(), " running") {
				close(running)
			}
		}
	}()
	b.stop = func(signal os.Signal) {
		_ = cmd.Process.Signal(signal)
		<-ended
		_ = cmd.Wait()
		if b.t.Failed() {
			b.t.Log(strings.Join(lines, "\n"))
		}
	}
	select {
	case <-running:
	case <-ended:
		b.t.Fatal("mosquitto does not start")
	case <-time.After(patience):
		b.t.Fatal("mosquitto does not say that it runs")
	}
}

func freePort(t *testing.T) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	_, port, _ := net.SplitHostPort(ln.Addr().String())
	return port
}

const open = "listener PORT 127.0.0.1\nallow_anonymous true\n"

// publisher is a client that publishes with QoS 1 and waits until the broker has it.
func publisher(t *testing.T, port string) (publish func(topic, payload string) mqtt.Token) {
	t.Helper()
	o := mqtt.NewClientOptions().AddBroker("mqtt://127.0.0.1:" + port).SetClientID("publisher").SetProtocolVersion(4)
	c := mqtt.NewClient(o)
	if token := c.Connect(); !token.WaitTimeout(patience) || token.Error() != nil {
		t.Fatal("publisher: ", token.Error())
	}
	t.Cleanup(func() { c.Disconnect(250) })
	return func(topic, payload string) mqtt.Token { return c.Publish(topic, 1, false, payload) }
}

func wait(t *testing.T, token mqtt.Token) {
	t.Helper()
	if !token.WaitTimeout(patience) || token.Error() != nil {
		t.Fatal("publish: ", token.Error())
	}
}

func allActive(s State) bool {
	return s.Connected && s.Unanswered == 0 && !slices.ContainsFunc(s.Troubled, func(s SubscriptionState) bool { return !s.Active })
}

func TestMosquittoKeepsThePersistentSession(t *testing.T) {
	port := mosquitto(t, open)
	publish := publisher(t, port)
	o := Options{URLs: []string{"mqtt://127.0.0.1:" + port}, ClientID: "gateway", Subscriptions: []Subscription{{Filter: "t/#", QoS: 1}}}

	held := o
	held.Handle = func(batch []Message) {
		for i := range batch {
			batch[i].Hold = string(batch[i].Topic) == "t/held"
		}
	}
	first := start(t, held)
	if first.reached("subscribed", allActive).SessionPresent {
		t.Error("a session before the first connect")
	}
	wait(t, publish("t/done", "1"))
	wait(t, publish("t/held", "2"))
	first.messages(2)
	first.stop()
	wait(t, publish("t/away", "3"))

	second := start(t, o)
	got := second.messages(2)
	if !second.reached("subscribed", allActive).SessionPresent {
		t.Error("the session is gone")
	}
	for i, want := range []string{"t/held dup true", "t/away dup false"} {
		if g := fmt.Sprintf("%s dup %v", got[i].Topic, got[i].Dup); g != want {
			t.Errorf("message %d: got %s, want %s", i, g, want)
		}
	}
}

func TestMosquittoTenThousandMessagesAreAllAcknowledged(t *testing.T) {
	const n, topics, window = 10_000, 1000, 100
	port := mosquitto(t, open+"max_queued_messages 0\n") // a slow machine is not to lose any
	publish := publisher(t, port)
	o := Options{URLs: []string{"mqtt://127.0.0.1:" + port}, ClientID: "gateway", Subscriptions: []Subscription{{Filter: "t/#", QoS: 1}}}
	c := start(t, o)
	c.reached("subscribed", allActive)
	tokens := make([]mqtt.Token, 0, n)
	for i := range n {
		tokens = append(tokens, publish(fmt.Sprintf("t/%d", i%topics), fmt.Sprint(i/topics)))
		if i >= window {
			wait(t, tokens[i-window])
		}
	}
	next := map[string]int{}
	for i, m := range c.messages(n) {
		topic := string(m.Topic)
		if string(m.Payload) != fmt.Sprint(next[topic]) || m.Dup {
			t.Fatalf("message %d, topic %s: payload %s, want %d", i, topic, m.Payload, next[topic])
		}
		next[topic]++
	}
	// All acknowledged: nothing comes again.
	c.stop()
	c = start(t, o)
	c.reached("subscribed", allActive)
	wait(t, publish("t/last", "x"))
	if got := c.messages(1); string(got[0].Topic) != "t/last" {
		t.Errorf("%s came again", got[0].Topic)
	}
}

func TestMosquittoTakesANewPasswordAtTheNextConnect(t *testing.T) {
	tool, err := exec.LookPath("mosquitto_passwd")
	if err != nil {
		skip(t, "mosquitto_passwd is not installed")
	}
	dir := t.TempDir()
	users := filepath.Join(dir, "users")
	if out, err := exec.Command(tool, "-c", "-b", users, "gateway", "right").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	secret := filepath.Join(dir, "password")
	write := func(password string) {
		if err := os.WriteFile(secret, []byte(password), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	port := mosquitto(t, "listener PORT 127.0.0.1\nallow_anonymous false\npassword_file "+users+"\n")
	write("wrong")
	c := start(t, Options{URLs: []string{"mqtt://127.0.0.1:" + port}, Username: "gateway",
		Password: func() (string, error) { b, err := os.ReadFile(secret); return string(b), err }})
	c.reached("refused", lostWith("not authorized"))
	write("right")
	c.reached("connected", connected)
}

func TestMosquittoAsksForACertificate(t *testing.T) {
	dir := t.TempDir()
	ca := newAuthority(t)
	server := ca.issue(t, "127.0.0.1")
	files := map[string]string{
		"ca":   writePEM(t, dir, "ca.pem", "CERTIFICATE", ca.cert.Raw),
		"cert": writePEM(t, dir, "cert.pem", "CERTIFICATE", server.Certificate[0]),
		"key":  writePEM(t, dir, "key.pem", "PRIVATE KEY", pkcs8(t, server)),
	}
	port := mosquitto(t, fmt.Sprintf("listener PORT 127.0.0.1\nallow_anonymous true\ncafile %s\ncertfile %s\nkeyfile %s\nrequire_certificate true\n",
		files["ca"], files["cert"], files["key"]))

	// One configuration for each connect: no trust, no certificate, all well.
	configs := make(chan *tls.Config, 3)
	pool := x509.NewCertPool()
	configs <- &tls.Config{}
	configs <- &tls.Config{RootCAs: pool}
	pool.AddCert(ca.cert)
	configs <- &tls.Config{RootCAs: pool, Certificates: []tls.Certificate{ca.issue(t, "gateway")}}
	c := start(t, Options{URLs: []string{"mqtts://127.0.0.1:" + port}, Subscriptions: []Subscription{{Filter: "t", QoS: 1}},
		TLS: func(host string) (*tls.Config, error) { return <-configs, nil }})
	c.reached("does not trust the broker", lostWith("unknown authority"))
	c.reached("is not trusted", func(s State) bool {
		return s.LastErr != "" && !strings.Contains(s.LastErr, "unknown authority")
	})
	c.reached("subscribed", allActive)
	o := mqtt.NewClientOptions().AddBroker("mqtts://127.0.0.1:" + port).SetClientID("publisher").
		SetTLSConfig(&tls.Config{RootCAs: pool, Certificates: []tls.Certificate{ca.issue(t, "publisher")}})
	p := mqtt.NewClient(o)
	wait(t, p.Connect())
	defer p.Disconnect(250)
	wait(t, p.Publish("t", 1, false, "x"))
	c.messages(1)
}

func TestMosquittoOverWebSocket(t *testing.T) {
	ws := freePort(t)
	port := mosquitto(t, open+"listener "+ws+" 127.0.0.1\nprotocol websockets\n")
	publish := publisher(t, port)
	c := start(t, Options{URLs: []string{"ws://127.0.0.1:" + ws + "/mqtt"}, Subscriptions: []Subscription{{Filter: "t", QoS: 1}},
		Status: &Status{"s"}})
	c.reached("subscribed", allActive)
	payload := strings.Repeat("x", 1000)
	for range 3 {
		wait(t, publish("t", payload))
	}
	for _, m := range c.messages(3) {
		if string(m.Payload) != payload {
			t.Fatal("another payload")
		}
	}
}

// The broker's own will and clean end, seen by another client.
func TestMosquittoTellsOthersWhetherWeAreThere(t *testing.T) {
	port := mosquitto(t, open)
	heard := make(chan string, 10)
	watcher := start(t, Options{URLs: []string{"mqtt://127.0.0.1:" + port}, ClientID: "watcher", Subscriptions: []Subscription{{Filter: "status/+", QoS: 1}},
		Handle: func(batch []Message) {
			for _, m := range batch {
				heard <- string(m.Payload)
			}
		}})
	watcher.reached("subscribed", allActive)
	hears := func(want string) {
		t.Helper()
		select {
		case got := <-heard:
			if got != want {
				t.Errorf("heard %q, want %q", got, want)
			}
		case <-time.After(patience):
			t.Errorf("never heard %q", want)
		}
	}
	conns := make(chan net.Conn, 2)
	c := start(t, Options{URLs: []string{"mqtt://127.0.0.1:" + port}, Status: &Status{"status/c"}}, func(s *Session) {
		s.open = func(ctx context.Context, _ *url.URL) (net.Conn, error) {
			conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", "127.0.0.1:"+port)
			conns <- conn
			return conn, err
		}
	})
	hears("online")
	_ = (<-conns).Close() // without DISCONNECT
	hears("offline")
	hears("online")
	c.stop()
	hears("offline")
	if n := c.State().Connects; n != 2 {
		t.Errorf("%d connects", n)
	}
}
