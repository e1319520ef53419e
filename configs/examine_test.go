package configs

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"io/fs"
	"math/big"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

var examined = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

// days is a time so many days after that of the examination.
func days(n int) time.Time { return examined.Add(time.Duration(n) * 24 * time.Hour) }

// pairOf is a certificate in PEM that lasts from one day to another, and its key.
func pairOf(t *testing.T, name string, from, to int) (cert, key string) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: days(from), NotAfter: days(to),
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &private.PublicKey, private)
	if err != nil {
		t.Fatal(err)
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})), string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: pkcs8}))
}

// examine is what is said of a configuration in a folder with these files, faults
// first, without the name of the folder.
func examine(t *testing.T, broker string, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, content := range files {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		writeFile(t, path, []byte(content))
	}
	file := filepath.Join(dir, "x.yaml")
	writeFile(t, file, []byte(broker+"\n"+oneRule))
	c, err := Load(file, nil)
	if err != nil {
		t.Fatal(err)
	}
	faults, warnings := c.ExamineFiles(examined)
	var b strings.Builder
	for _, f := range faults {
		b.WriteString("fault " + f.Error() + " (" + f.Hint + ")\n")
	}
	for _, w := range warnings {
		b.WriteString("warning " + w.Error() + " (" + w.Hint + ")\n")
	}
	return strings.ReplaceAll(b.String(), dir+"/", "")
}

func TestFilesThatCannotBeReadAreWarnedOf(t *testing.T) {
	const password = "broker: {username: joe, password_file: %s}"
	for _, c := range []struct {
		name, broker string
		files        map[string]string
		want         string
	}{
		{"a good one", fmt.Sprintf(password, "password"), map[string]string{"password": "hunter2\n"}, ""},
		{
			"one that is not there", fmt.Sprintf(password, "secret"), nil,
			"warning x.yaml:1:40: broker.password_file: secret: no such file or directory (topicast reads it at every connect, so it can come later)\n",
		},
		{
			"a misspelt one", fmt.Sprintf(password, "keys/pasword"), map[string]string{"keys/password": "hunter2"},
			"warning x.yaml:1:40: broker.password_file: keys/pasword: no such file or directory (did you mean keys/password?)\n",
		},
		{
			"one in a misspelt folder", fmt.Sprintf(password, "kyes/password"), map[string]string{"keys/password": "hunter2"},
			"warning x.yaml:1:40: broker.password_file: kyes/password: no such file or directory (did you mean keys/password?)\n",
		},
		{
			"a near name that leads nowhere", fmt.Sprintf(password, "kyes/password"), map[string]string{"keys/other": "hunter2"},
			"warning x.yaml:1:40: broker.password_file: kyes/password: no such file or directory (topicast reads it at every connect, so it can come later)\n",
		},
		{
			"one below a file", fmt.Sprintf(password, "a/password"), map[string]string{"a": "x"},
			"warning x.yaml:1:40: broker.password_file: a/password: not a directory (what stands before a / must be a folder)\n",
		},
		{
			"a folder", fmt.Sprintf(password, "a"), map[string]string{"a/password": "x"},
			"fault x.yaml:1:40: broker.password_file: a: is a folder, not a file (name a file in it)\n",
		},
		{
			"an empty one", fmt.Sprintf(password, "password"), map[string]string{"password": "\n"},
			"fault x.yaml:1:40: broker.password_file: password: the file is empty (write the password into it, or leave the key out)\n",
		},
		{
			"all at once", "broker: {url: mqtts://a, tls: {ca_file: ca.pem, cert_file: c.pem, key_file: c.key}}", nil,
			"warning x.yaml:1:41: broker.tls.ca_file: ca.pem: no such file or directory (topicast reads it at every connect, so it can come later)\n" +
				"warning x.yaml:1:60: broker.tls.cert_file: c.pem: no such file or directory (topicast reads it at every connect, so it can come later)\n" +
				"warning x.yaml:1:77: broker.tls.key_file: c.key: no such file or directory (topicast reads it at every connect, so it can come later)\n",
		},
	} {
		if diff := cmp.Diff(c.want, examine(t, c.broker, c.files)); diff != "" {
			t.Errorf("%s (-want +got)\n%s", c.name, diff)
		}
	}
}

func TestCertificatesAreHeldAgainstTheirKeyAndTheTime(t *testing.T) {
	cert, key := pairOf(t, "gateway", -100, 100)
	other, otherKey := pairOf(t, "other", -100, 100)
	expired, expiredKey := pairOf(t, "gateway", -100, -1)
	early, earlyKey := pairOf(t, "gateway", 1, 100)
	ending, endingKey := pairOf(t, "gateway", -300, 13)
	daily, dailyKey := pairOf(t, "gateway", -2, 1)
	const place = " x.yaml:1:45: broker.tls.cert_file: "
	for _, c := range []struct{ name, cert, key, want string }{
		{"a good pair", cert, key, ""},
		{"with its chain", cert + expired, key, ""},
		{"the key first", key + cert, key, ""},
		{"another's key", cert, otherKey, "fault" + place + "c.pem with key_file c.key: private key does not match public key ("},
		{"a key as certificate", key, key, "fault" + place + "c.pem with key_file c.key: failed to find certificate PEM data"},
		{"no PEM", "x", key, "fault" + place + "c.pem with key_file c.key: failed to find any PEM data in certificate input ("},
		{"expired", expired, expiredKey, "fault" + place + "c.pem: the certificate has expired, at 2026-02-28 12:00:00 UTC (renew it; topicast reads it at every connect"},
		{"expired, behind its key", expiredKey + expired, expiredKey, "fault" + place + "c.pem: the certificate has expired, at"},
		{"before its time", early, earlyKey, "warning" + place + "c.pem: the certificate is not valid before 2026-03-02 12:00:00 UTC, and here it is 2026-03-01 12:00:00 UTC (see whether the clock"},
		{"about to expire", ending, endingKey, "warning" + place + "c.pem: the certificate expires at 2026-03-14 12:00:00 UTC (renew it; "},
		{"one of three days, renewed each", daily, dailyKey, ""},
	} {
		got := examine(t, "broker: {url: mqtts://broker.lan, tls: {cert_file: c.pem, key_file: c.key}}", map[string]string{"c.pem": c.cert, "c.key": c.key})
		got = strings.ReplaceAll(got, "x.yaml:1:52:", "x.yaml:1:45:")
		if !strings.HasPrefix(got, c.want) || c.want == "" && got != "" || strings.Count(got, "\n") > 1 {
			t.Errorf("%s: %s", c.name, got)
		}
	}
	// Without its key a certificate has a time all the same.
	got := examine(t, "broker: {url: mqtts://a, tls: {cert_file: c.pem, key_file: none.key}}", map[string]string{"c.pem": expired})
	if !strings.Contains(got, "none.key: no such file") || !strings.Contains(got, "c.pem: the certificate has expired") {
		t.Error(got)
	}

	const authority = " x.yaml:1:41: broker.tls.ca_file: ca.pem: "
	for _, c := range []struct{ name, ca, want string }{
		{"a good one", cert, ""},
		{"none", "x", "fault" + authority + "holds no certificate (it takes PEM"},
		{"expired", expired, "fault" + authority + "the certificate has expired, at 2026-02-28 12:00:00 UTC (put the new certificate"},
		{"all expired", expired + expired, "fault" + authority + "all 2 certificates have expired, the last at 2026-02-28 12:00:00 UTC ("},
		{"one of two expired", other + expired, "warning" + authority + "of 2 certificates 1 expired, the first of them (CN=gateway) at 2026-02-28 12:00:00 UTC (take it out"},
		{"one before its time", early, "warning" + authority + "a certificate (CN=gateway) is not valid before 2026-03-02 12:00:00 UTC, and here it is"},
		{"about to expire", ending, "warning" + authority + "the certificate (CN=gateway) expires at 2026-03-14 12:00:00 UTC ("},
		{"about to expire, and the next one", ending + cert, ""},
	} {
		got := examine(t, "broker: {url: mqtts://a, tls: {ca_file: ca.pem}}", map[string]string{"ca.pem": c.ca})
		if !strings.HasPrefix(got, c.want) || c.want == "" && got != "" || strings.Count(got, "\n") > 1 {
			t.Errorf("%s: %s", c.name, got)
		}
	}
}

func TestSecretsThatAllUsersMayReadAreWarnedOf(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("no modes")
	}
	dir := t.TempDir()
	if err := os.Chmod(filepath.Dir(dir), 0o755); err != nil { // made by TempDir too
		t.Fatal(err)
	}
	if writeFile(t, filepath.Join(dir, "any"), nil); !openToAll(filepath.Join(dir, "any")) {
		t.Skipf("%s is closed to others", dir)
	}
	cert, key := pairOf(t, "gateway", -100, 100)
	closed := filepath.Join(dir, "closed")
	for path, content := range map[string]string{"password": "hunter2", "c.pem": cert, "c.key": key, "closed/password": "hunter2"} {
		path = filepath.Join(dir, path)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		writeFile(t, path, []byte(content))
	}
	say := func(broker string, mode os.FileMode) string {
		t.Helper()
		file := filepath.Join(dir, "x.yaml")
		writeFile(t, file, []byte("broker: {url: mqtts://a, "+broker+"}\n"+oneRule))
		for _, name := range []string{"x.yaml", "password", "c.pem", "c.key", "closed/password"} {
			if err := os.Chmod(filepath.Join(dir, name), mode); err != nil {
				t.Fatal(err)
			}
		}
		c, err := Load(file, nil)
		if err != nil {
			t.Fatal(err)
		}
		faults, warnings := c.ExamineFiles(examined)
		return strings.ReplaceAll(report(faults)+report(warnings), dir+"/", "")
	}
	const open = "every user of this host may read it, and the secret in it (mode 0644)\n    hint: chmod o-rwx "
	for _, c := range []struct {
		name, broker string
		mode         os.FileMode
		want         string
	}{
		{"a password file", "username: joe, password_file: password", 0o644, "x.yaml:1:56: broker.password_file: password: " + open + "password\n"},
		{"a password file of the group", "username: joe, password_file: password", 0o640, ""},
		{"a key", "tls: {cert_file: c.pem, key_file: c.key}", 0o644, "x.yaml:1:60: broker.tls.key_file: c.key: " + open + "c.key\n"},
		{"a key of the group", "tls: {cert_file: c.pem, key_file: c.key}", 0o640, ""},
		{"a password in the configuration", "username: joe, password: hunter2", 0o644, "x.yaml:1:51: broker.password: x.yaml: " + open + "x.yaml, or keep it in password_file\n"},
		{"no secret", "username: joe", 0o644, ""},
		{"an authority", "tls: {ca_file: c.pem}", 0o644, ""},
	} {
		if diff := cmp.Diff(c.want, say(c.broker, c.mode)); diff != "" {
			t.Errorf("%s (-want +got)\n%s", c.name, diff)
		}
	}
	if err := os.Chmod(closed, 0o750); err != nil {
		t.Fatal(err)
	}
	if got := say("username: joe, password_file: closed/password", 0o644); got != "" {
		t.Errorf("in a folder that is closed to others: %s", got)
	}
	t.Setenv("TOPICAST_BROKER_PASSWORD", "hunter2")
	if got := say("username: joe", 0o644); got != "" {
		t.Errorf("a password in a variable: %s", got)
	}
	t.Setenv("TOPICAST_BROKER_PASSWORD", "")
	t.Setenv("TOPICAST_BROKER_PASSWORD_FILE", filepath.Join(dir, "password"))
	if got := say("username: joe", 0o644); !strings.HasPrefix(got, "TOPICAST_BROKER_PASSWORD_FILE: broker.password_file: password: every user") {
		t.Errorf("named by a variable: %s", got)
	}
}

func TestTheFolderOfTheSpoolIsLookedAt(t *testing.T) {
	dir := t.TempDir()
	writeFile(t, filepath.Join(dir, "file"), nil)
	if err := os.Mkdir(filepath.Join(dir, "spool"), 0o700); err != nil {
		t.Fatal(err)
	}
	good := func(string) error { return nil }
	readOnly := func(string) error { return syscall.EROFS }
	for _, c := range []struct {
		dir  string
		can  func(string) error
		want string
	}{
		{"", readOnly, ""},
		{"spool", good, ""},
		{"spool", readOnly, "warning spool.dir: spool: cannot be written: " + syscall.EROFS.Error() + " (let the user that topicast runs as write there"},
		{"file", good, "fault spool.dir: file: is not a folder (name a folder"},
		{"spoool", good, "warning spool.dir: spoool: there is no such folder yet; topicast run makes it (did you mean spool?)"},
		{"a/b/c", good, "warning spool.dir: a/b/c: there is no such folder yet; topicast run makes it (if a disk belongs there"},
		{"a/b/c", readOnly, "warning spool.dir: a/b/c: there is no such folder, and it cannot be made in .: " + syscall.EROFS.Error() + " (if a disk"},
	} {
		x := &examination{config: &Config{}}
		folder := c.dir
		if folder != "" {
			folder = filepath.Join(dir, c.dir)
		}
		x.spool(folder, c.can)
		var got strings.Builder
		for _, f := range x.faults {
			fmt.Fprintf(&got, "fault %v (%s)", f, f.Hint)
		}
		for _, w := range x.warnings {
			fmt.Fprintf(&got, "warning %v (%s)", w, w.Hint)
		}
		text := strings.ReplaceAll(strings.ReplaceAll(got.String(), dir+string(filepath.Separator), ""), "in "+dir+":", "in .:")
		if !strings.HasPrefix(text, c.want) || c.want == "" && text != "" {
			t.Errorf("%s: %s, want %s", c.dir, text, c.want)
		}
	}
	if _, err := os.Stat(filepath.Join(dir, "a")); err == nil {
		t.Error("the folder was made")
	}
}

func TestThePlaceOfTheDeadLettersIsLookedAt(t *testing.T) {
	dir := t.TempDir()
	for _, c := range []struct {
		file string
		can  error
		want string
	}{
		{"", syscall.EROFS, ""},
		{"letters", nil, ""},
		{"new/letters", fs.ErrNotExist, ""}, // it is made
		{"letters", syscall.EROFS, "warning broker.dead_letters: letters: cannot be written: " + syscall.EROFS.Error() + " (let the user that topicast runs as write"},
		{".", nil, "fault broker.dead_letters: .: is not a file (name a file"},
	} {
		x := &examination{config: &Config{}}
		file := c.file
		if file != "" {
			file = dir + string(filepath.Separator) + c.file
		}
		x.deadLetters(file, func(string) error { return c.can })
		var got string
		for _, f := range x.faults {
			got += fmt.Sprintf("fault %v (%s)", f, f.Hint)
		}
		for _, w := range x.warnings {
			got += fmt.Sprintf("warning %v (%s)", w, w.Hint)
		}
		if got = strings.ReplaceAll(got, dir+string(filepath.Separator), ""); !strings.HasPrefix(got, c.want) || c.want == "" && got != "" {
			t.Errorf("%s: %s, want %s", c.file, got, c.want)
		}
	}
}

func TestTheDeadLettersAreInTheStateFolderWhereThereIsOne(t *testing.T) {
	t.Setenv("STATE_DIRECTORY", "")
	for _, c := range []struct{ given, spool, want string }{{"", "", ""}, {"", "/s", filepath.Join("/s", "dead-letters.jsonl")}, {"/d", "/s", "/d"}, {"/d", "", "/d"}} {
		cfg := &Config{Broker: Broker{DeadLetters: c.given}, Spool: Spool{Dir: c.spool}}
		if got := cfg.DeadLetters(); got != c.want {
			t.Errorf("%+v: got %s", c, got)
		}
	}
}
