package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	mqtt "github.com/eclipse/paho.mqtt.golang"

	"topicast/bridge"
	"topicast/bridge/account"
	"topicast/bridge/send"
	"topicast/internal/lab/netlab"
)

// The system tests run the real binary on the gateway of a netlab.Rig, with a
// real mosquitto on the private network and a device on the isolated one:
//
//	publisher ─▶ mosquitto 10.0.0.1 ─▶ priv0 topicast iso0 ─▶ 172.17.0.50 device
//	            [lan]                       [gw]                  [dev]

const (
	brokerAddress = "10.0.0.1:1883"
	webAddress    = "127.0.0.1:9479"
	gatewayID     = "gateway-7"
	patience      = 20 * time.Second
)

// topicastBinary builds the command, once for all tests, and as they were built:
// under go test -race the bridge has the race detector in it too. Where there is no compiler,
// TOPICAST_TEST_BINARY names it.
var topicastBinary = sync.OnceValues(func() (string, error) {
	if given := os.Getenv("TOPICAST_TEST_BINARY"); given != "" {
		return given, nil
	}
	var err error
	if systemDir, err = os.MkdirTemp("", "topicast-test-"); err != nil {
		return "", err
	}
	binary := filepath.Join(systemDir, "topicast")
	args := []string{"build", "-o", binary}
	if info, ok := debug.ReadBuildInfo(); ok && slices.Contains(info.Settings, debug.BuildSetting{Key: "-race", Value: "true"}) {
		args = append(args, "-race")
	}
	if out, err := exec.Command("go", append(args, ".")...).CombinedOutput(); err != nil {
		return "", fmt.Errorf("go %s: %w\n%s", strings.Join(args, " "), err, out)
	}
	return binary, nil
})

// system is a rig with a configuration of topicast.
type system struct {
	*netlab.Rig
	t      *testing.T
	config string
	web    http.Client
}

// newSystem prepares everything but starts neither the broker nor the bridge.
// The rules are the list under send:, without indentation.
func newSystem(t *testing.T, rules string) *system {
	t.Helper()
	return newSystemOn(t, netlab.NewRig(t), gatewayID, rules)
}

// newSystemOn is newSystem for the gateway of any rig.
func newSystemOn(t *testing.T, rig *netlab.Rig, clientID, rules string) *system {
	t.Helper()
	config := fmt.Sprintf("broker:\n  url: mqtt://%s\n  client_id: %s\nweb:\n  listen: %s\nsend:\n%s", brokerAddress, clientID, webAddress, rules)
	file := filepath.Join(t.TempDir(), "topicast.yaml")
	if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	return &system{
		Rig: rig, t: t, config: file,
		web: http.Client{Transport: &http.Transport{DialContext: rig.GW.Dial, DisableKeepAlives: true}, Timeout: patience},
	}
}

// startAll starts the broker and the bridge, and waits until both are ready.
func (s *system) startAll(settings ...string) *netlab.Process {
	s.t.Helper()
	s.startBroker(settings...)
	p := s.startBridge()
	s.ready()
	return p
}

// startBroker starts a mosquitto with its default settings: the file says only
// where to listen and that anybody may come in, and what a test adds to that.
func (s *system) startBroker(settings ...string) *netlab.Process {
	s.t.Helper()
	mosquitto, err := exec.LookPath("mosquitto")
	if err != nil {
		// Debian's is where an ordinary user's PATH does not look.
		if mosquitto, err = exec.LookPath("/usr/sbin/mosquitto"); err != nil {
			netlab.Skip(s.t, "mosquitto is not installed: %v", err)
		}
	}
	host, port, err := net.SplitHostPort(brokerAddress)
	if err != nil {
		s.t.Fatal(err)
	}
	// "user root" keeps it from becoming the user mosquitto, which a user
	// namespace does not have.
	config := fmt.Sprintf("listener %s %s\nallow_anonymous true\nuser root\n%s\n", port, host, strings.Join(settings, "\n"))
	file := filepath.Join(s.t.TempDir(), "mosquitto.conf")
	if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
		s.t.Fatal(err)
	}
	p := s.Lan.Start(mosquitto, "-c", file)
	s.t.Cleanup(func() {
		if strings.Contains(p.Output(), "messages are being dropped") {
			s.t.Error("mosquitto's queue ran over: the messages that are missing were lost there")
		}
	})
	s.eventually("mosquitto accepts connections", func() error {
		conn, err := s.Lan.Dial(s.t.Context(), "tcp", brokerAddress)
		if err == nil {
			conn.Close()
		}
		return err
	})
	return p
}

// startBridge starts topicast and waits until it answers, ready or not.
func (s *system) startBridge() *netlab.Process {
	s.t.Helper()
	binary, err := topicastBinary()
	if err != nil {
		s.t.Fatal(err)
	}
	p := s.GW.Start(binary, "run", "--config", s.config)
	s.eventually("topicast answers", func() error {
		select {
		case <-p.Exited():
			s.t.Fatalf("topicast ended: %v", p.Wait())
		default:
		}
		code, _, err := s.get("/healthz")
		if err == nil && code != http.StatusOK {
			err = fmt.Errorf("/healthz: %d", code)
		}
		return err
	})
	return p
}

// ready waits until /readyz says so.
func (s *system) ready() {
	s.t.Helper()
	s.eventually("topicast is ready", func() error {
		code, body, err := s.get("/readyz")
		if err == nil && code != http.StatusOK {
			err = fmt.Errorf("/readyz: %d %s", code, body)
		}
		return err
	})
}

// eventually waits until the check passes.
func (s *system) eventually(what string, check func() error) {
	s.t.Helper()
	const interval = 10 * time.Millisecond
	deadline := time.Now().Add(patience)
	for {
		err := check()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			s.t.Fatalf("not after %v: %s: %v", patience, what, err)
		}
		time.Sleep(interval)
	}
}

// get asks the status server on the gateway.
func (s *system) get(path string) (code int, body string, err error) {
	r, err := s.web.Get("http://" + webAddress + path)
	if err != nil {
		return 0, "", err
	}
	defer r.Body.Close()
	b, err := io.ReadAll(r.Body)
	return r.StatusCode, string(b), err
}

// status returns what /status says now.
func (s *system) status() bridge.Status {
	s.t.Helper()
	code, body, err := s.get("/status")
	if err != nil || code != http.StatusOK {
		s.t.Fatalf("/status: %d %v", code, err)
	}
	var status bridge.Status
	if err := json.Unmarshal([]byte(body), &status); err != nil {
		s.t.Fatalf("/status: %v in\n%s", err, body)
	}
	return status
}

// rule returns the status of one rule.
func (s *system) rule(name string) send.Status {
	s.t.Helper()
	rules := s.status().Rules
	i := slices.IndexFunc(rules, func(r send.Status) bool { return r.Name == name })
	if i < 0 {
		s.t.Fatalf("/status has no rule %s", name)
	}
	return rules[i]
}

// ruleBecomes waits until a rule is in a state.
func (s *system) ruleBecomes(name string, want account.State) (got send.Status) {
	s.t.Helper()
	s.eventually(fmt.Sprintf("rule %s is %s", name, want), func() error {
		if got = s.rule(name); got.State != want {
			return fmt.Errorf("it is %s (%s)", got.State, got.Reason)
		}
		return nil
	})
	return got
}

// hasSent waits until a rule counts as many datagrams as sent, and no more: a device
// has them before that.
func (s *system) hasSent(name string, want int) {
	s.t.Helper()
	s.eventually(fmt.Sprintf("rule %s has sent %d", name, want), func() error {
		if got := s.rule(name); got.Sent != uint64(want) {
			return fmt.Errorf("%d sent, %v dropped", got.Sent, got.Drops)
		}
		return nil
	})
}

// metrics returns /metrics as a map from the sample, with its labels as they are
// written, to the value.
func (s *system) metrics() map[string]float64 {
	s.t.Helper()
	code, body, err := s.get("/metrics")
	if err != nil || code != http.StatusOK {
		s.t.Fatalf("/metrics: %d %v", code, err)
	}
	samples := map[string]float64{}
	for line := range strings.Lines(body) {
		line = strings.TrimSuffix(line, "\n")
		i := strings.LastIndexByte(line, ' ')
		if i < 0 || strings.HasPrefix(line, "#") {
			continue
		}
		value, err := strconv.ParseFloat(line[i+1:], 64)
		if err != nil {
			s.t.Fatalf("/metrics: %q: %v", line, err)
		}
		samples[line[:i]] = value
	}
	return samples
}

// client connects to the broker from the private network.
func (s *system) client(id string, change ...func(*mqtt.ClientOptions)) mqtt.Client {
	s.t.Helper()
	o := mqtt.NewClientOptions().AddBroker("tcp://" + brokerAddress).SetClientID(id).SetAutoReconnect(false)
	o.SetCustomOpenConnectionFn(func(u *url.URL, _ mqtt.ClientOptions) (net.Conn, error) {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		return s.Lan.Dial(ctx, "tcp", u.Host)
	})
	for _, c := range change {
		c(o)
	}
	c := mqtt.NewClient(o)
	s.done(c.Connect(), "connect "+id)
	s.t.Cleanup(func() { c.Disconnect(0) })
	return c
}

// done waits for a paho token.
func (s *system) done(token mqtt.Token, what string) {
	s.t.Helper()
	if !token.WaitTimeout(patience) {
		s.t.Fatalf("%s: not done after %v", what, patience)
	}
	if err := token.Error(); err != nil {
		s.t.Fatalf("%s: %v", what, err)
	}
}

// publish publishes with QoS 1 and waits for the broker to have it.
func (s *system) publish(c mqtt.Client, topic string, payload []byte) {
	s.t.Helper()
	s.done(c.Publish(topic, 1, false, payload), "publish to "+topic)
}

// publishRetained does the same with the RETAIN flag.
func (s *system) publishRetained(c mqtt.Client, topic string, payload []byte) {
	s.t.Helper()
	s.done(c.Publish(topic, 1, true, payload), "publish retained to "+topic)
}
