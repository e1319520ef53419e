//go:build linux

package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"io"
	"math/big"
	"net"
	"os"
	"sync/atomic"
	"time"
)

// overTLS has the bridge speak MQTT over TLS with the meddler, whose certificate it trusts.
func overTLS(r *rig) {
	r.meddler = &meddler{}
	good, err := certificate(1, time.Now().Add(time.Hour))
	if err == nil {
		block := pem.Block{Type: "CERTIFICATE", Bytes: good.Certificate[0]}
		err = os.WriteFile(r.file("ca.pem"), pem.EncodeToMemory(&block), 0o600)
	}
	r.must(err)
	r.meddler.tls = &tls.Config{Certificates: []tls.Certificate{good}}
	r.setup.url = "mqtts://" + meddlerHost
	r.setup.broker = "tls: { ca_file: " + r.file("ca.pem") + " }"
}

// certificate makes one of the broker's host, which has signed it itself.
func certificate(serial int64, until time.Time) (tls.Certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return tls.Certificate{}, err
	}
	c := &x509.Certificate{
		SerialNumber: big.NewInt(serial), Subject: pkix.Name{CommonName: big.NewInt(serial).String()},
		NotBefore: until.Add(-24 * time.Hour), NotAfter: until,
		IsCA: true, BasicConstraintsValid: true, IPAddresses: []net.IP{net.ParseIP(brokerHost)},
	}
	der, err := x509.CreateCertificate(rand.Reader, c, c, &key.PublicKey, key)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, err
}

// failingTLS receives each connection in another way, so that no error is the one before.
func failingTLS(r *rig) {
	var n atomic.Int64
	instead(func(r *rig, c net.Conn) {
		i := n.Add(1)
		switch i % 5 {
		case 0: // a fatal alert of another kind each time (RFC 8446, 6)
			_, _ = c.Write([]byte{21, 3, 3, 0, 2, 2, byte(40 + i)})
		case 1:
			_, _ = io.WriteString(c, "HTTP/1.1 400 Bad Request\r\nDate: "+time.Now().Format(time.RFC1123)+"\r\n\r\n")
		case 2:
			shake(r, c, i, time.Now().Add(time.Hour)) // nobody trusts it
		case 3:
			shake(r, c, i, time.Now().Add(-time.Duration(i)*time.Minute)) // it has expired, too
		case 4:
			_ = tls.Server(c, r.meddler.tls).HandshakeContext(r.ctx)
		}
	})(r)
}

// shake shakes hands with a certificate of its own. What comes of it is for the bridge to say.
func shake(r *rig, c net.Conn, serial int64, until time.Time) {
	own, err := certificate(serial, until)
	r.must(err)
	_ = tls.Server(c, &tls.Config{Certificates: []tls.Certificate{own}}).HandshakeContext(r.ctx)
}
