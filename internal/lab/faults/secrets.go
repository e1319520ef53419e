//go:build linux

package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"os/exec"
	"time"
)

// write writes a file of the rig, in one step for whoever reads it meanwhile.
func (r *rig) write(name, text string) {
	err := os.WriteFile(r.file(name+".new"), []byte(text), 0o600)
	if err == nil {
		err = os.Rename(r.file(name+".new"), r.file(name))
	}
	if err != nil {
		r.fail("%v", err)
	}
}

// setPassword sets what the broker wants, once it is started again, and with ours
// what the bridge sends.
func (r *rig) setPassword(password string, ours bool) {
	out, err := exec.CommandContext(r.ctx, "mosquitto_passwd", "-b", "-c", r.file("users"), "gateway", password).CombinedOutput()
	if err != nil {
		r.fail("mosquitto_passwd: %v: %s", err, out)
	}
	if ours {
		r.write("password", password+"\n")
	}
}

// dynamicSecurity is mosquitto's plug-in that can refuse a subscription; its ACL
// files cannot.
const dynamicSecurity = "/usr/lib/x86_64-linux-gnu/mosquitto_dynamic_security.so"

// writeRoles has the plug-in allow everything but subscriptions to a filter.
func (r *rig) writeRoles(refused string) {
	type object = map[string]any
	type list = []object
	text, err := json.Marshal(object{
		"defaultACLAccess": object{"publishClientSend": true, "publishClientReceive": true, "subscribe": true, "unsubscribe": true},
		"anonymousGroup":   "all",
		"clients":          list{},
		"groups":           list{{"groupname": "all", "roles": list{{"rolename": "most"}}}},
		"roles": list{{"rolename": "most", "acls": list{
			{"acltype": "subscribeLiteral", "topic": refused, "priority": 1, "allow": false}}}},
	})
	if err != nil {
		r.fail("%v", err)
	}
	r.write("roles.json", string(text))
}

// makeCertificates makes an authority and what it signs: for the broker and for the
// bridge.
func (r *rig) makeCertificates() {
	if err := r.writeCertificates(); err != nil {
		r.fail("make certificates: %v", err)
	}
}

func (r *rig) writeCertificates() error {
	now := time.Now()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	ca := &x509.Certificate{
		SerialNumber: big.NewInt(now.UnixNano()), Subject: pkix.Name{CommonName: "authority " + now.String()},
		NotBefore: now.Add(-time.Hour), NotAfter: now.Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, ca, ca, key.Public(), key)
	if err != nil {
		return err
	}
	r.writePEM("ca.pem", "CERTIFICATE", der)
	r.writePEM("broker-ca.pem", "CERTIFICATE", der)
	for i, name := range []string{"broker", "client"} {
		own, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			return err
		}
		der, err := x509.CreateCertificate(rand.Reader, &x509.Certificate{
			SerialNumber: big.NewInt(now.UnixNano() + int64(i) + 1), Subject: pkix.Name{CommonName: name},
			NotBefore: now.Add(-time.Hour), NotAfter: now.Add(time.Hour), KeyUsage: x509.KeyUsageDigitalSignature,
			ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
			IPAddresses: []net.IP{net.ParseIP(brokerHost)},
		}, ca, own.Public(), key)
		if err != nil {
			return err
		}
		r.writePEM(name+".pem", "CERTIFICATE", der)
		secret, err := x509.MarshalPKCS8PrivateKey(own)
		if err != nil {
			return err
		}
		r.writePEM(name+".key", "PRIVATE KEY", secret)
	}
	return nil
}

func (r *rig) writePEM(name, kind string, der []byte) {
	r.write(name, string(pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der})))
}
