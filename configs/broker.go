package configs

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"syscall"
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
	const path = "broker.password_file"
	if b.PasswordFile == "" {
		return string(b.Secret), nil
	}
	data, err := readFile(path, b.PasswordFile, maxPassword+2)
	if err != nil {
		return "", err
	}
	password := strings.TrimSuffix(strings.TrimSuffix(string(data), "\n"), "\r")
	switch {
	case password == "":
		return "", fileError(path, b.PasswordFile, "write the password into it, or leave the key out", errors.New("the file is empty"))
	case len(password) > maxPassword:
		return "", fileError(path, b.PasswordFile, "is it the right file?", fmt.Errorf("longer than %d bytes", maxPassword))
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
	var kind notRegular
	switch {
	case errors.As(err, &long):
		return "is it the right file?"
	case errors.As(err, &kind):
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
