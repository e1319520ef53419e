package configs

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"strconv"
	"strings"
	"syscall"

	"topicast/internal/plainfile"
)

// maxPassword is what fits behind the 16-bit length of the CONNECT packet (MQTT
// 3.1.1, 3.1.3.5).
const maxPassword = 65535

// Password returns the password to log in with, or "" if there is none. It
// reads password_file anew, so that a password changed there is used at the
// next connect. One newline at the end of the file does not belong to it.
func (b *Broker) Password() (string, error) {
	password, err := b.password()
	return password, hintInText(err)
}

func (b *Broker) password() (string, error) {
	switch {
	case b.Command != "":
		return runCommand("broker.password_command", b.Command)
	case b.PasswordFile != "":
		return readPassword("broker.password_file", b.PasswordFile, maxPassword)
	}
	return string(b.Secret), nil
}

// Password returns the password for the proxy, or "" if there is none, as Broker.Password does.
func (p *Proxy) Password() (string, error) {
	password, err := p.password()
	return password, hintInText(err)
}

func (p *Proxy) password() (string, error) {
	if p.PasswordFile == "" {
		return "", nil
	}
	return readPassword("broker.proxy.password_file", p.PasswordFile, maxProxyPassword)
}

// Address returns the proxy, or nil if there is none. It was checked.
func (p *Proxy) Address() *url.URL {
	if p.URL == "" {
		return nil
	}
	u, _ := parseProxy(p.URL)
	return u
}

// maxProxyPassword is what fits behind the 8-bit length of RFC 1929.
const maxProxyPassword = 255

// parseProxy reads the address of a proxy, http://host:port or socks5://host:port.
func parseProxy(written string) (*url.URL, error) {
	u, err := url.Parse(written)
	scheme, _, _ := strings.Cut(written, "://")
	switch {
	case strings.Contains(written, "@"):
		return nil, withHint("use broker.proxy.username and password_file", errors.New("the url of a proxy holds no @, since it is shown in the log and must hold no password"))
	case scheme == "https":
		return nil, withHint("TLS to the broker goes through http:// too", fmt.Errorf("%q: a connection to the proxy itself with TLS is not supported", written))
	case scheme == "socks5h", scheme == "socks", scheme == "socks4":
		return nil, withHint("write socks5://; names are resolved by the proxy", fmt.Errorf("%q: the scheme is none of http, socks5", written))
	case err != nil || scheme != "http" && scheme != "socks5" || u.Hostname() == "" || strings.Trim(u.Path, "/") != "" || u.RawQuery != "" || u.Fragment != "":
		return nil, withHint("such as http://proxy.example.com:3128 or socks5://192.0.2.1:1080", fmt.Errorf("%q is not the address of a proxy", written))
	case u.Port() == "":
		return nil, withHint("such as "+written+":3128", fmt.Errorf("%q has no port", written))
	}
	if n, err := strconv.ParseUint(u.Port(), 10, 16); err != nil || n == 0 {
		return nil, fmt.Errorf("%q: port %s is out of range: 1 to 65535", written, u.Port())
	}
	return u, nil
}

// readPassword reads a file that a key names and that holds a password of at most so many bytes.
func readPassword(path, file string, most int) (string, error) {
	data, err := readFile(path, file, maxPassword+2)
	if err != nil {
		return "", err
	}
	password := strings.TrimSuffix(strings.TrimSuffix(string(data), "\n"), "\r")
	switch {
	case password == "":
		return "", fileError(path, file, "write the password into it, or leave the key out", errors.New("the file is empty"))
	case len(password) > most:
		return "", fileError(path, file, "is it the right file?", fmt.Errorf("longer than %d bytes", most))
	}
	return password, nil
}

// TLSConfig returns what a connection to host by mqtts or wss is secured with.
// It reads the files anew, so that a renewed certificate is used at the next
// connect. TLS 1.2 is the oldest version spoken (RFC 8996).
func (b *Broker) TLSConfig(host string) (*tls.Config, error) {
	c := &tls.Config{MinVersion: tls.VersionTLS12, ServerName: host}
	if b.TLS.ServerName != "" {
		c.ServerName = b.TLS.ServerName
	}
	c.NextProtos = b.TLS.ALPN
	if b.TLS.CAFile != "" {
		authorities, err := b.TLS.authorities()
		if err != nil {
			return nil, hintInText(err)
		}
		c.RootCAs = x509.NewCertPool()
		for _, a := range authorities {
			c.RootCAs.AddCert(a)
		}
	}
	if b.TLS.CertFile != "" {
		certificate, err := b.TLS.certificate()
		if err != nil {
			return nil, hintInText(err)
		}
		c.Certificates = []tls.Certificate{certificate}
	}
	return c, nil
}

// maxPEM is far more than the certificates of all public authorities take.
const maxPEM = 4 << 20

// authorities reads ca_file. CertPool.AppendCertsFromPEM skips what it cannot read,
// which leaves a broker that is not trusted and no reason why.
func (t *TLS) authorities() (found []*x509.Certificate, err error) {
	const path = "broker.tls.ca_file"
	data, err := readFile(path, t.CAFile, maxPEM)
	if err != nil {
		return nil, err
	}
	for block, rest := pem.Decode(data); block != nil; block, rest = pem.Decode(rest) {
		if block.Type != "CERTIFICATE" {
			return nil, fileError(path, t.CAFile, "it takes the certificates of authorities only", fmt.Errorf("holds a %s", block.Type))
		}
		certificate, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, fileError(path, t.CAFile, "have it made anew", fmt.Errorf("certificate %d: %w", len(found)+1, err))
		}
		found = append(found, certificate)
	}
	if len(found) == 0 {
		return nil, fileError(path, t.CAFile, "it takes PEM: a block that begins with -----BEGIN CERTIFICATE-----", errors.New("holds no certificate"))
	}
	return found, nil
}

func (t *TLS) certificate() (tls.Certificate, error) {
	const certPath, keyPath = "broker.tls.cert_file", "broker.tls.key_file"
	cert, err := readFile(certPath, t.CertFile, maxPEM)
	if err != nil {
		return tls.Certificate{}, err
	}
	key, err := readFile(keyPath, t.KeyFile, maxPEM)
	if err != nil {
		return tls.Certificate{}, err
	}
	if block, _ := pem.Decode(key); block != nil && strings.Contains(block.Type, "ENCRYPTED") || block != nil && block.Headers["DEK-Info"] != "" {
		return tls.Certificate{}, fileError(keyPath, t.KeyFile, "openssl pkey -in FILE -out FILE takes the passphrase off", errors.New("the key is encrypted"))
	}
	pair, err := tls.X509KeyPair(cert, key)
	if err != nil {
		return tls.Certificate{}, fileError(certPath, t.CertFile+" with key_file "+t.KeyFile,
			"both take PEM, and the key is the one the certificate was made for", errors.New(strings.TrimPrefix(err.Error(), "tls: ")))
	}
	return pair, nil
}

// readFile reads a file that a key names, if it is not longer than most.
func readFile(path, file string, most int64) ([]byte, error) {
	data, err := readRegular(file, most)
	if err != nil {
		return nil, fileError(path, file, hintOfFile(err), reason(err))
	}
	return data, nil
}

// hintOfFile returns what to do about a file that cannot be read.
func hintOfFile(err error) string {
	var long errTooLong
	switch {
	case errors.As(err, &long):
		return "is it the right file?"
	case plainfile.Is(err):
		return "it is read at each connect, so it must be a regular file"
	case errors.Is(err, syscall.ELOOP), errors.Is(err, syscall.ENOTDIR):
		return hintOfPath(err)
	}
	return "see that it is there and that the user topicast runs as may read it"
}

// reason returns the error without the name of the file.
func reason(err error) error {
	var inner *fs.PathError
	if errors.As(err, &inner) {
		return inner.Err
	}
	return err
}

// fileError returns the fault that a file has which a key names.
func fileError(path, file, hint string, err error) error {
	return &Error{Path: path, Err: fmt.Errorf("%s: %w", file, err), Hint: hint}
}

// hintInText makes the hint part of the text, for an error that goes to the log.
func hintInText(err error) error {
	var e *Error
	if !errors.As(err, &e) {
		return err
	}
	return &Error{Path: e.Path, Err: fmt.Errorf("%w (%s)", e.Err, e.Hint)}
}
