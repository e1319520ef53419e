package configs

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"io/fs"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func writeFile(t *testing.T, file string, data []byte) {
	t.Helper()
	if err := os.WriteFile(file, data, 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestPasswordIsReadAtEveryCall(t *testing.T) {
	file := filepath.Join(t.TempDir(), "password")
	b := &Broker{Secret: "not this", PasswordFile: file}
	for written, want := range map[string]string{
		"one": "one", "two\n": "two", "three\r\n": "three", "four\n\n": "four\n", " five ": " five ",
		strings.Repeat("x", 65535) + "\r\n": strings.Repeat("x", 65535),
	} {
		writeFile(t, file, []byte(written))
		if got, err := b.Password(); got != want || err != nil {
			t.Errorf("%q: %q, %v", written, got, err)
		}
	}
	for written, want := range map[string]string{
		"": "the file is empty", "\n": "the file is empty",
		strings.Repeat("x", 65536):   "longer than 65535 bytes",
		strings.Repeat("x", 100_000): "longer than 65537 bytes",
	} {
		writeFile(t, file, []byte(written))
		if got, err := b.Password(); got != "" || err == nil || !strings.HasPrefix(err.Error(), "broker.password_file: "+file+": "+want) {
			t.Errorf("%.10q: %.10q, %v", written, got, err)
		}
	}
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	want := "broker.password_file: " + file + ": no such file or directory (see that it is there and that the user topicast runs as may read it)"
	if _, err := b.Password(); err == nil || err.Error() != want || !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("%v, want %s", err, want)
	}
}

// pair makes a key and a certificate for it, signed by itself, in PEM.
func pair(t *testing.T, host string) (cert, key []byte) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), DNSNames: []string{host}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &private.PublicKey, private)
	if err != nil {
		t.Fatal(err)
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: pkcs8})
}

// handshake reports whether a client with the configuration trusts a server with
// the certificate, and which certificate of its own the client showed.
func handshake(t *testing.T, client *tls.Config, cert, key []byte, version uint16) (shown []*x509.Certificate, err error) {
	t.Helper()
	own, err := tls.X509KeyPair(cert, key)
	if err != nil {
		t.Fatal(err)
	}
	listener, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{
		Certificates: []tls.Certificate{own}, ClientAuth: tls.RequestClientCert, MinVersion: tls.VersionTLS10, MaxVersion: version,
	})
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	type result struct {
		shown []*x509.Certificate
		err   error
	}
	done := make(chan result, 1)
	go func() {
		conn, err := listener.Accept()
		if err != nil {
			done <- result{nil, err}
			return
		}
		defer conn.Close()
		server := conn.(*tls.Conn)
		err = server.Handshake()
		done <- result{server.ConnectionState().PeerCertificates, err}
	}()
	conn, err := tls.DialWithDialer(&net.Dialer{Timeout: 10 * time.Second}, "tcp", listener.Addr().String(), client)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	r := <-done
	return r.shown, r.err
}

func TestTLSConfigTrustsWhatItIsToldAndReadsItAnew(t *testing.T) {
	dir := t.TempDir()
	ca, certFile, keyFile := filepath.Join(dir, "ca.pem"), filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	cert, key := pair(t, "broker.example")
	other, otherKey := pair(t, "broker.example")
	b := &Broker{TLS: TLS{CAFile: ca, CertFile: certFile, KeyFile: keyFile}}
	writeFile(t, ca, cert)
	writeFile(t, certFile, other)
	writeFile(t, keyFile, otherKey)

	config := func(host string) *tls.Config {
		t.Helper()
		c, err := b.TLSConfig(host)
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	shown, err := handshake(t, config("broker.example"), cert, key, tls.VersionTLS12)
	block, _ := pem.Decode(other)
	if err != nil || len(shown) != 1 || !bytes.Equal(shown[0].Raw, block.Bytes) {
		t.Errorf("%d certificates shown, %v", len(shown), err)
	}
	if _, err := handshake(t, config("broker.example"), other, otherKey, tls.VersionTLS13); err == nil {
		t.Error("a stranger is trusted")
	}
	if _, err := handshake(t, config("127.0.0.1"), cert, key, tls.VersionTLS13); err == nil {
		t.Error("another name is accepted")
	}
	if _, err := handshake(t, config("broker.example"), cert, key, tls.VersionTLS11); err == nil {
		t.Error("TLS 1.1 is spoken")
	}
	b.TLS.ServerName = "broker.example"
	if _, err := handshake(t, config("127.0.0.1"), cert, key, tls.VersionTLS13); err != nil {
		t.Errorf("server_name has no effect: %v", err)
	}
	writeFile(t, ca, append(cert, other...)) // renewed
	if _, err := handshake(t, config("127.0.0.1"), other, otherKey, tls.VersionTLS13); err != nil {
		t.Errorf("ca_file is not read again: %v", err)
	}
	b.TLS = TLS{}
	if c := config("a"); c.RootCAs != nil || len(c.Certificates) != 0 || c.ServerName != "a" {
		t.Errorf("%+v", c)
	}
}

func TestTLSConfigSaysWhichFileIsWrong(t *testing.T) {
	dir := t.TempDir()
	cert, key := pair(t, "a")
	otherCert, _ := pair(t, "b")
	file := func(name string, data []byte) string {
		name = filepath.Join(dir, name)
		writeFile(t, name, data)
		return name
	}
	good, goodKey, other := file("good.pem", cert), file("good.key", key), file("other.pem", otherCert)
	encrypted := file("encrypted.key", pem.EncodeToMemory(&pem.Block{Type: "ENCRYPTED PRIVATE KEY", Bytes: []byte{1}}))
	oldEncrypted := file("old.key", pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Headers: map[string]string{"DEK-Info": "x"}, Bytes: []byte{1}}))
	text := file("text.pem", []byte("not PEM\n"))
	broken := file("broken.pem", append(cert, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: []byte{1}})...))
	huge := file("huge.pem", make([]byte, maxPEM+1))
	none := filepath.Join(dir, "none.pem")

	for _, test := range []struct {
		tls  TLS
		want string
	}{
		{TLS{CAFile: none}, "broker.tls.ca_file: " + none + ": no such file or directory (see that it is there"},
		{TLS{CAFile: dir}, "broker.tls.ca_file: " + dir + ": no regular file, but a folder (it is read at each connect"},
		{TLS{CAFile: text}, "broker.tls.ca_file: " + text + ": holds no certificate (it takes PEM"},
		{TLS{CAFile: goodKey}, "broker.tls.ca_file: " + goodKey + ": holds a PRIVATE KEY (it takes the certificates"},
		{TLS{CAFile: broken}, "broker.tls.ca_file: " + broken + ": certificate 2: x509: malformed"},
		{TLS{CAFile: huge}, "broker.tls.ca_file: " + huge + ": longer than 4194304 bytes"},
		{TLS{CertFile: none, KeyFile: goodKey}, "broker.tls.cert_file: " + none + ": no such file"},
		{TLS{CertFile: good, KeyFile: none}, "broker.tls.key_file: " + none + ": no such file"},
		{TLS{CertFile: good, KeyFile: encrypted}, "broker.tls.key_file: " + encrypted + ": the key is encrypted (openssl"},
		{TLS{CertFile: good, KeyFile: oldEncrypted}, "broker.tls.key_file: " + oldEncrypted + ": the key is encrypted"},
		{TLS{CertFile: other, KeyFile: goodKey}, "broker.tls.cert_file: " + other + " with key_file " + goodKey + ": private key does not match public key (both take PEM"},
		{TLS{CertFile: text, KeyFile: goodKey}, "broker.tls.cert_file: " + text + " with key_file " + goodKey + ": failed to find any PEM data"},
	} {
		b := &Broker{TLS: test.tls}
		if _, err := b.TLSConfig("a"); err == nil || !strings.HasPrefix(err.Error(), test.want) {
			t.Errorf("%+v:\n%v\nwant\n%s", test.tls, err, test.want)
		}
	}
}
