package session

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// What mosquitto's listeners say to what is not meant for them, and to whom they do
// not let in.
func TestMosquittoEachCauseIsNamedAsItself(t *testing.T) {
	t.Parallel() // it waits most of the time
	tool, err := exec.LookPath("mosquitto_passwd")
	if err != nil {
		skip(t, "mosquitto_passwd is not installed")
	}
	dir := t.TempDir()
	users := filepath.Join(dir, "users")
	if out, err := exec.Command(tool, "-c", "-b", users, "gateway", "right").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	ca := newAuthority(t)
	pool := x509.NewCertPool()
	pool.AddCert(ca.cert)
	trust := &tls.Config{RootCAs: pool}
	var config strings.Builder
	listener := func(name, options string, certificate *tls.Certificate) (port string) {
		port = freePort(t)
		fmt.Fprintf(&config, "listener %s 127.0.0.1\n%s", port, options)
		if certificate != nil {
			fmt.Fprintf(&config, "certfile %s\nkeyfile %s\n",
				writePEM(t, dir, name+".pem", "CERTIFICATE", certificate.Certificate[0]),
				writePEM(t, dir, name+".key", "PRIVATE KEY", pkcs8(t, *certificate)))
		}
		return port
	}
	const anonymous = "allow_anonymous true\n"
	good := ca.issue(t, "127.0.0.1")
	expired := ca.issueAs(t, "127.0.0.1", func(c *x509.Certificate) { c.NotAfter = time.Now().Add(-time.Minute) })
	secure := listener("good", anonymous, &good)
	late := listener("expired", anonymous, &expired)
	demanding := listener("demanding", anonymous+"require_certificate true\ncafile "+writePEM(t, dir, "ca.pem", "CERTIFICATE", ca.cert.Raw)+"\n", &good)
	websocket := listener("websocket", anonymous+"protocol websockets\n", nil)
	closed := listener("closed", "allow_anonymous false\npassword_file "+users+"\n", nil)
	plain := mosquitto(t, "per_listener_settings true\n"+config.String()+open)

	var checks []func()
	for _, tt := range []struct {
		name, url string
		tls       *tls.Config
		want      []string
	}{
		{"TLS to a port without", "mqtts://127.0.0.1:" + plain, trust, []string{"closed the connection in the TLS handshake", "mqtt:// is for one without"}},
		{"a port with TLS", "mqtt://127.0.0.1:" + secure, nil, []string{"closed the connection before it answered CONNECT", "mqtts:// is for one with TLS"}},
		{"an unknown authority", "mqtts://127.0.0.1:" + secure, nil, []string{"unknown authority", "broker.tls.ca_file"}},
		{"expired", "mqtts://127.0.0.1:" + late, trust, []string{"has expired on", "the clock of this host"}},
		{"asks for a certificate", "mqtts://127.0.0.1:" + demanding, trust, []string{"alert certificate required", "broker.tls.cert_file"}},
		{"WebSocket to a port of MQTT", "ws://127.0.0.1:" + plain + "/mqtt", nil, []string{"closed the connection when asked for a WebSocket", "mqtt://"}},
		{"MQTT to a port for WebSocket", "mqtt://127.0.0.1:" + websocket, nil, []string{"the port speaks HTTP", "ws://"}},
		{"TLS to a port for WebSocket", "wss://127.0.0.1:" + websocket, trust, []string{"does not speak TLS", "ws://"}},
		{"a wrong password", "mqtt://127.0.0.1:" + closed, nil, []string{"not authorized", "check username, password_file"}},
	} {
		c := start(t, Options{URLs: []string{tt.url}, ClientID: tt.name, Username: "gateway", Password: func() (string, error) { return "wrong", nil },
			TLS: func(string) (*tls.Config, error) { return tt.tls, nil }})
		checks = append(checks, func() {
			t.Run(tt.name, func(t *testing.T) {
				c.t = t
				c.reached("failed often", func(s State) bool { return s.Attempts == 5 })
				c.stop()
				log, text := c.log.String(), c.State().LastErr
				if n := strings.Count(log, "level=WARN"); n != 1 {
					t.Errorf("%d lines:\n%s", n, log)
				}
				for _, want := range tt.want {
					if !strings.Contains(text, want) {
						t.Errorf("got %s\nwant %s", text, want)
					}
				}
			})
		})
	}
	for _, check := range checks {
		check()
	}
}
