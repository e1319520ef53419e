package session

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/url"
	"slices"
	"strings"
	"time"
)

// plainSchemes are those without TLS, of those with it.
var plainSchemes = map[string]string{"mqtts": "mqtt", "wss": "ws", "mqtts+srv": "mqtt+srv"}

// tlsCause is for what only TLS says; nil: it was something else. config is ours,
// if it is known.
func tlsCause(u *url.URL, config *tls.Config, err error) error {
	if e, ok := errors.AsType[tls.RecordHeaderError](err); ok {
		return &causeError{what: fmt.Sprintf("the port does not speak TLS: it answers with %q", e.RecordHeader[:]),
			hint: fmt.Sprintf("%s:// is for a port without TLS; or name the broker's port with TLS", plainSchemes[u.Scheme]), err: err}
	}
	if e := certificateCause(config, err, time.Now()); e != nil {
		return e
	}
	return alertCause(err)
}

// tlsHandshakeCause is for a TLS handshake that failed.
func tlsHandshakeCause(u *url.URL, config *tls.Config, err error) error {
	if e := tlsCause(u, config, err); e != nil {
		return e
	}
	const ask = "is this a port with TLS? %s:// is for one without"
	c := &causeError{hint: fmt.Sprintf(ask, plainSchemes[u.Scheme]), err: err}
	switch {
	case timedOut(err):
		c.what = fmt.Sprintf("no answer within %v to the TLS handshake", dialTimeout)
	case closed(err), reset(err):
		c.what, c.seen = "the broker closed the connection in the TLS handshake", byReset(err)
	default:
		c.what, c.hint = "the TLS handshake failed: "+strings.TrimPrefix(plain(err), "tls: "), ""
		if strings.Contains(c.what, "unsupported protocol version") {
			c.hint = tlsVersions
		}
	}
	return c
}

const tlsVersions = "topicast speaks TLS 1.2 and 1.3: the broker has to speak one of them"

// certificateCause is for a certificate of the broker that we do not take; nil: it
// was something else.
func certificateCause(config *tls.Config, err error, now time.Time) error {
	c := &causeError{err: err}
	if e, ok := errors.AsType[x509.UnknownAuthorityError](err); ok {
		c.what = "the broker's certificate is signed by an unknown authority"
		c.hint = "name the file with that authority's certificate in broker.tls.ca_file"
		if cert := issued(err, e.Cert); cert != nil {
			c.what += fmt.Sprintf(", %q", cert.Issuer)
			if cert.Issuer.String() == cert.Subject.String() {
				c.what = fmt.Sprintf("the broker's certificate is signed by an unknown authority, itself: %q", cert.Subject)
				c.hint = "name the file with that certificate in broker.tls.ca_file"
			}
		}
		if config != nil && config.RootCAs != nil {
			c.hint = "broker.tls.ca_file has other certificates: it needs the one that signed this, or the broker has to send those in between"
		}
		return c
	}
	if e, ok := errors.AsType[x509.CertificateInvalidError](err); ok {
		whose := "the broker's certificate"
		if e.Cert != nil && e.Cert.IsCA {
			whose = fmt.Sprintf("the certificate of the authority %q", e.Cert.Subject)
		}
		if e.Reason != x509.Expired || e.Cert == nil {
			c.what = whose + " is of no use here: " + strings.TrimPrefix(e.Error(), "x509: ")
			c.hint = "have it made anew"
			return c
		}
		c.seen = "the clock of this host says " + instant(now)
		if now.Before(e.Cert.NotBefore) {
			c.what = fmt.Sprintf("%s is not valid before %s", whose, instant(e.Cert.NotBefore))
			c.hint = "check the clock of this host"
		} else {
			c.what = fmt.Sprintf("%s has expired on %s", whose, instant(e.Cert.NotAfter))
			c.hint = "have it renewed, or check the clock of this host"
		}
		return c
	}
	if e, ok := errors.AsType[x509.HostnameError](err); ok {
		c.what = fmt.Sprintf("the broker's certificate is not for %q", e.Host)
		c.hint = "have it made anew, with a subject alternative name"
		if names := namesOf(e.Certificate); len(names) > 0 {
			c.what += ", but for " + strings.Join(names, ", ")
			c.hint = "use that in broker.url, or name it in broker.tls.server_name"
		}
		return c
	}
	if e, ok := errors.AsType[*tls.CertificateVerificationError](err); ok {
		c.what = "the broker's certificate is not taken: " + strings.TrimPrefix(e.Err.Error(), "x509: ")
		return c
	}
	return nil
}

// issued is the last certificate that the broker has sent, whose issuer is missing.
func issued(err error, cert *x509.Certificate) *x509.Certificate {
	if e, ok := errors.AsType[*tls.CertificateVerificationError](err); ok && len(e.UnverifiedCertificates) > 0 {
		return e.UnverifiedCertificates[len(e.UnverifiedCertificates)-1]
	}
	return cert
}

func instant(t time.Time) string { return t.UTC().Format("2006-01-02 15:04:05 UTC") }

// maxNames is how many names of a certificate are told; some have a hundred.
const maxNames = 5

// namesOf are those that a certificate is for.
func namesOf(cert *x509.Certificate) (list []string) {
	if cert == nil {
		return nil
	}
	list = slices.Clone(cert.DNSNames)
	for _, ip := range cert.IPAddresses {
		list = append(list, ip.String())
	}
	if n := len(list); n > maxNames {
		list = append(list[:maxNames], fmt.Sprintf("and %d others", n-maxNames))
	}
	return list
}

// alertHints say what to do about what a TLS alert of the broker says (RFC 8446,
// section 6.2). package tls has them as text only.
var alertHints = []struct{ alert, hint string }{
	{"certificate required", "it asks for a client certificate: set broker.tls.cert_file and key_file"},
	{"expired certificate", "the client certificate, broker.tls.cert_file, has expired, or the clock of one of the two is wrong"},
	{"revoked certificate", "the client certificate, broker.tls.cert_file, is revoked: it needs another"},
	{"unknown certificate authority", "the broker does not know the authority that signed the client certificate, broker.tls.cert_file"},
	{"certificate", "it asks for a client certificate that it takes: check broker.tls.cert_file and key_file"},
	{"access denied", "the client certificate, broker.tls.cert_file, is valid, and not allowed"},
	{"handshake failure", "it asks for a client certificate (broker.tls.cert_file and key_file), or has no cipher in common with us"},
	{"insufficient security", "it has no cipher in common with us"},
	{"unrecognized name", "it has no certificate for that name: check the host in broker.url, and broker.tls.server_name"},
	{"protocol version", tlsVersions},
	{"no application protocol", "name a protocol that it takes in broker.tls.alpn (mqtt; AWS IoT: x-amzn-mqtt-ca), or use another port of it"},
}

// alertCause is for what the broker says in a TLS alert; nil: it was something
// else. With TLS 1.3 what it says of our certificate comes after our handshake.
func alertCause(err error) error {
	op, ok := errors.AsType[*net.OpError](err)
	if !ok || op.Op != "remote error" {
		return nil
	}
	alert := strings.TrimPrefix(op.Err.Error(), "tls: ")
	c := &causeError{what: "the broker ended TLS with the alert " + alert, err: err}
	for _, h := range alertHints {
		if strings.Contains(alert, h.alert) {
			c.hint = h.hint
			break
		}
	}
	return c
}
