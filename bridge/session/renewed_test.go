package session

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// What a broker asks for changes while it is away, and so do the files it is read
// from. The session comes back by itself.

func TestMosquittoMayHaveANewCertificateOfANewAuthority(t *testing.T) {
	dir := t.TempDir()
	// renew writes new files of the same names, for both ends.
	renew := func() {
		t.Helper()
		ca := newAuthority(t)
		server, client := ca.issue(t, "127.0.0.1"), ca.issue(t, "gateway")
		writePEM(t, dir, "ca.pem", "CERTIFICATE", ca.cert.Raw)
		writePEM(t, dir, "server.pem", "CERTIFICATE", server.Certificate[0])
		writePEM(t, dir, "server.key", "PRIVATE KEY", pkcs8(t, server))
		writePEM(t, dir, "client.pem", "CERTIFICATE", client.Certificate[0])
		writePEM(t, dir, "client.key", "PRIVATE KEY", pkcs8(t, client))
	}
	read := func(string) (*tls.Config, error) {
		ca, err := os.ReadFile(filepath.Join(dir, "ca.pem"))
		if err != nil {
			return nil, err
		}
		pool := x509.NewCertPool()
		if !pool.AppendCertsFromPEM(ca) {
			return nil, errors.New("no certificate in ca.pem")
		}
		client, err := tls.LoadX509KeyPair(filepath.Join(dir, "client.pem"), filepath.Join(dir, "client.key"))
		return &tls.Config{RootCAs: pool, Certificates: []tls.Certificate{client}}, err
	}
	renew()
	broker := newMosquitto(t, fmt.Sprintf("persistence false\nlistener PORT 127.0.0.1\nallow_anonymous true\ncafile %[1]s/ca.pem\ncertfile %[1]s/server.pem\nkeyfile %[1]s/server.key\nrequire_certificate true\n", dir))
	c := start(t, Options{URLs: []string{"mqtts://127.0.0.1:" + broker.port}, TLS: read, Subscriptions: []Subscription{{Filter: "t", QoS: 1}}})
	c.reached("subscribed", allActive)
	broker.comesBackAfter(c, renew)
}

func TestMosquittoMayHaveANewPassword(t *testing.T) {
	tool, err := exec.LookPath("mosquitto_passwd")
	if err != nil {
		skip(t, "mosquitto_passwd is not installed")
	}
	dir := t.TempDir()
	users, secret := filepath.Join(dir, "users"), filepath.Join(dir, "password")
	n := 0
	renew := func() {
		t.Helper()
		n++
		password := fmt.Sprint("password ", n)
		if out, err := exec.Command(tool, "-c", "-b", users, "gateway", password).CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		if err := os.WriteFile(secret, []byte(password), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	renew()
	broker := newMosquitto(t, "persistence false\nlistener PORT 127.0.0.1\nallow_anonymous false\npassword_file "+users+"\n")
	c := start(t, Options{URLs: []string{"mqtt://127.0.0.1:" + broker.port}, Username: "gateway",
		Password: func() (string, error) { b, err := os.ReadFile(secret); return string(b), err }, Subscriptions: []Subscription{{Filter: "t", QoS: 1}}})
	c.reached("subscribed", allActive)
	broker.comesBackAfter(c, renew)
}

// comesBackAfter ends the broker, renews what it asks for, starts it again, and
// waits for the session.
func (b *mosquittoBroker) comesBackAfter(c *client, renew func()) {
	b.t.Helper()
	b.stop(os.Interrupt)
	c.until("lost", func() bool { return !c.State().Connected })
	renew()
	b.start()
	c.until("back", func() bool { s := c.State(); return s.Connects == 2 && allActive(s) })
}
