package configs

import (
	"cmp"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"time"

	"topicast/mapping"
)

// check looks at what concerns more than one key, and fills in what follows
// from other keys.
func (s *scalars) check(doc *document) {
	if err := checkListen(doc.Web.Listen); err != nil {
		s.report("web.listen", err)
	}
	if err := checkControl(doc.Control.Listen); err != nil {
		s.report("control.listen", err)
	}
	if dir := stateDirectory(); doc.Spool.Dir == "" && dir != "" {
		doc.Spool.Dir = dir
		s.origins["spool.dir"] = origin{layer: layerEnv, name: "STATE_DIRECTORY"}
	}
	b := &doc.Broker
	if b.KeepAlive%time.Second != 0 {
		s.report("broker.keep_alive", fmt.Errorf("%v is not in whole seconds, which is all that MQTT has", b.KeepAlive)) // MQTT 3.1.1, 3.1.2.10
	}
	if b.Expiry%time.Second != 0 {
		s.report("broker.session_expiry", fmt.Errorf("%v is not in whole seconds, which is all that MQTT has", b.Expiry)) // MQTT 5, 3.1.2.11.2
	}
	if b.ClientID == "" {
		b.ClientID = defaultClientID()
	}
	s.checkStatusTopic(b)
	s.checkPassword(b)
	s.checkTLS(b)
	s.checkWay(b)
}

// checkWay looks at how the broker is reached.
func (s *scalars) checkWay(b *Broker) {
	p := &b.Proxy
	if p.URL != "" {
		if _, err := parseProxy(p.URL); err != nil {
			s.report("broker.proxy.url", err)
		}
	}
	const none = "there is no proxy that is told it"
	switch {
	case p.URL == "" && p.Username != "":
		s.report("broker.proxy.username", withHint("give broker.proxy.url too", errors.New(none)))
	case p.URL == "" && p.PasswordFile != "":
		s.report("broker.proxy.password_file", withHint("give broker.proxy.url too", errors.New(none)))
	case p.Username == "" && p.PasswordFile != "":
		s.report("broker.proxy.password_file", withHint("give broker.proxy.username too", errors.New("a password without a username")))
	case len(p.Username) > maxProxyPassword || strings.Contains(p.Username, ":") && strings.HasPrefix(p.URL, "http:"):
		s.report("broker.proxy.username", fmt.Errorf("want at most %d bytes, and for http:// no colon (RFC 7617)", maxProxyPassword))
	}
	if b.Bind == "" {
		return
	}
	if a, err := netip.ParseAddr(b.Bind); err != nil && !maybeName(b.Bind) {
		s.report("broker.bind", withHint("such as 192.0.2.7 or eth0", fmt.Errorf("%q is neither an address nor the name of an interface", b.Bind)))
	} else if err == nil && (a.IsMulticast() || a.IsUnspecified() || a.Zone() != "") {
		s.report("broker.bind", withHint("name one address of this host, such as 192.0.2.7", fmt.Errorf("%q is not an address that a connection can leave from", b.Bind)))
	}
}

// defaultClientID returns a name that is the same at every start, since a persistent
// session belongs to it, and another one on every host, since a broker drops the
// older of two sessions of one name [MQTT-3.1.4-2].
func defaultClientID() string {
	host, err := os.Hostname()
	if err != nil || host == "" {
		host = "localhost"
	}
	return "topicast-" + host
}

// stateDirectory returns the folder that systemd made for us, the first of several
// (systemd.exec(5), StateDirectory=), or "".
func stateDirectory() string {
	first, _, _ := strings.Cut(os.Getenv("STATE_DIRECTORY"), ":")
	return first
}

// StateDir returns the folder for what must outlive a restart beside the messages: the
// first that systemd gives (STATE_DIRECTORY), else spool.dir, else "" for nowhere.
// Who writes there makes it if need be, and gives each of its files a name of its
// own; the spool's begin with spool.
func (c *Config) StateDir() string { return cmp.Or(stateDirectory(), c.Spool.Dir) }

// DeadLetters returns the file for messages that were given up, or "" for nowhere.
func (c *Config) DeadLetters() string {
	dir := c.StateDir()
	if c.Broker.DeadLetters == "" && dir != "" {
		return filepath.Join(dir, "dead-letters.jsonl")
	}
	return c.Broker.DeadLetters
}

func (s *scalars) checkStatusTopic(b *Broker) {
	const placeholder = "{client_id}"
	if b.StatusTopic == "" {
		return
	}
	if strings.Contains(b.StatusTopic, placeholder) && strings.ContainsAny(b.ClientID, "+#") {
		s.report("broker.client_id", withHint("change it, or write a broker.status_topic without {client_id}",
			fmt.Errorf("%q becomes part of the status topic, and a topic holds neither + nor #", b.ClientID)))
		return
	}
	topic := strings.ReplaceAll(b.StatusTopic, placeholder, b.ClientID)
	if err := mapping.CheckTopic(topic); err != nil {
		s.report("broker.status_topic", err)
	} else if strings.ContainsAny(topic, "{}") {
		s.report("broker.status_topic", withHint("write {client_id}, or no braces",
			fmt.Errorf("%q: {client_id} is the only word in braces here", b.StatusTopic)))
	}
	b.StatusTopic = topic
}

// checkPassword leaves one of password, password_file and password_command: the one given by the
// strongest layer, so that TOPICAST_BROKER_PASSWORD goes before a file named in
// the configuration.
func (s *scalars) checkPassword(b *Broker) {
	ways := []struct {
		key   string
		given bool
		drop  func()
	}{
		{"broker.password_file", b.PasswordFile != "", func() { b.PasswordFile = "" }},
		{"broker.password_command", b.Command != "", func() { b.Command = "" }},
		{"broker.password", b.Secret != "", func() { b.Secret = "" }},
	}
	best := -1
	for i, w := range ways {
		switch {
		case !w.given:
		case best < 0:
			best = i
		case s.origins[w.key].layer > s.origins[ways[best].key].layer:
			ways[best].drop()
			best = i
		case s.origins[w.key].layer < s.origins[ways[best].key].layer:
			w.drop()
		default:
			s.report(w.key, withHint("keep "+strings.TrimPrefix(ways[best].key, "broker."), fmt.Errorf("%s and %s are both given",
				strings.TrimPrefix(w.key, "broker."), strings.TrimPrefix(ways[best].key, "broker."))))
		}
	}
	if best >= 0 && b.Username == "" && !s.decoder.reported["broker.username"] { // [MQTT-3.1.2-22]
		s.report(ways[best].key, withHint("give broker.username too", errors.New("a password without a username, which MQTT 3.1.1 does not allow")))
	}
}

func (s *scalars) checkTLS(b *Broker) {
	t := &b.TLS
	switch {
	case t.CertFile != "" && t.KeyFile == "":
		s.report("broker.tls.cert_file", withHint("give broker.tls.key_file too", errors.New("a certificate without its private key")))
	case t.CertFile == "" && t.KeyFile != "":
		s.report("broker.tls.key_file", withHint("give broker.tls.cert_file too", errors.New("a private key without its certificate")))
	}
	for _, u := range b.URLs {
		if strings.HasPrefix(u, "mqtts:") || strings.HasPrefix(u, "wss:") || strings.HasPrefix(u, "mqtts+srv:") {
			return
		}
	}
	// Who took the trouble to name certificates does not expect the password to
	// travel in clear.
	for _, key := range []struct{ path, value string }{
		{"broker.tls.ca_file", t.CAFile},
		{"broker.tls.cert_file", t.CertFile},
		{"broker.tls.key_file", t.KeyFile},
		{"broker.tls.server_name", t.ServerName},
		{"broker.tls.alpn", strings.Join(t.ALPN, ",")},
	} {
		if key.value != "" {
			s.report(key.path, withHint("write mqtts:// or wss:// in broker.url, or leave the section tls out",
				errors.New("no url of the broker uses TLS")))
			return
		}
	}
}

// checkLoops looks at the keys of loops together with the rules: without the
// guard, what these hand round must at least be stopped by the breaker.
func (s *scalars) checkLoops(l *Loops, rules *mapping.Table) {
	if l.Guard {
		return
	}
	for i := range rules.Receive() {
		if !rules.ReceiveLoops(i) {
			continue
		}
		off := fmt.Sprintf("off, though what receive[%d] publishes can come back to it through the rules of send", i)
		if l.Breaker > 0 {
			s.warn("loops.guard", fmt.Errorf("%s: it goes round until loops.breaker stops the rule, at %d a second", off, l.Breaker))
			return
		}
		s.report("loops.guard", withHint("leave the guard or the breaker on, or let the two directions have different topics",
			fmt.Errorf("%s: with loops.breaker off too, one datagram would go round for ever", off)))
		return
	}
}
