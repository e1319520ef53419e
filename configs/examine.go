package configs

import (
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"time"

	"topicast/internal/plainfile"
	"topicast/mapping"
)

// The files that the configuration names are read at every connect, and the folder of
// the spool is opened at the start. A look at them before that shows what would
// otherwise come out only then.

// ExamineFiles looks at the files and the folder that the configuration names, as the
// user that calls it, and changes nothing. Faults are what cannot work: a key of
// another certificate, or one that has expired at the time now. Warnings are what may
// be otherwise at the next connect, or for the user that topicast runs as: a file that
// is not there, or may not be read.
func (c *Config) ExamineFiles(now time.Time) (faults, warnings Errors) {
	x := &examination{config: c}
	b := &c.Broker
	if x.look("broker.password_file", b.PasswordFile) {
		_, err := b.password()
		x.content(err)
		x.secret("broker.password_file", b.PasswordFile)
	}
	if x.look("broker.proxy.password_file", b.Proxy.PasswordFile) {
		_, err := b.Proxy.password()
		x.content(err)
		x.secret("broker.proxy.password_file", b.Proxy.PasswordFile)
	}
	if b.Secret != "" && c.origins["broker.password"].layer == layerFile {
		x.secret("broker.password", c.File)
	}
	if x.look("broker.tls.ca_file", b.TLS.CAFile) {
		authorities, err := b.TLS.authorities()
		if x.content(err) {
			x.authorities("broker.tls.ca_file", b.TLS.CAFile, authorities, now)
		}
	}
	cert, key := x.look("broker.tls.cert_file", b.TLS.CertFile), x.look("broker.tls.key_file", b.TLS.KeyFile)
	if cert && key {
		_, err := b.TLS.certificate()
		x.content(err)
	}
	if cert {
		x.own("broker.tls.cert_file", b.TLS.CertFile, now)
	}
	if key {
		x.secret("broker.tls.key_file", b.TLS.KeyFile)
	}
	x.spool(c.Spool.Dir, writable)
	x.deadLetters(b.DeadLetters, writable)
	return x.faults, x.warnings
}

// examination gathers what there is to say.
type examination struct {
	config           *Config
	faults, warnings Errors
}

func (x *examination) fault(path, file, hint string, err error) {
	x.faults = append(x.faults, x.config.Fault(path, fmt.Errorf("%s: %w", file, err), hint))
}

func (x *examination) warn(path, file, hint string, err error) {
	x.warnings = append(x.warnings, x.config.Fault(path, fmt.Errorf("%s: %w", file, err), hint))
}

const mayRead = "let the user that topicast runs as read it, and go through the folders above it"

// look reports whether there is a file whose content can be looked at.
func (x *examination) look(path, file string) bool {
	if file == "" {
		return false
	}
	info, err := os.Stat(file)
	switch {
	case err == nil && info.IsDir():
		x.fault(path, file, "name a file in it", errors.New("is a folder, not a file"))
	case err == nil && !info.Mode().IsRegular():
		// It would wait for whoever writes, and what it reads is gone for the start.
		x.warn(path, file, "name a file", errors.New("is not a file but a pipe or a device; it is read at every connect, and may have nothing by then"))
	case errors.Is(err, fs.ErrNotExist):
		hint := "topicast reads it at every connect, so it can come later"
		if near := nearFile(file); near != "" {
			hint = "did you mean " + near + "?"
		}
		x.warn(path, file, hint, reason(err))
	case err != nil:
		x.warn(path, file, hintOfPath(err), reason(err))
	default:
		return x.readable(path, file)
	}
	return false
}

// hintOfPath says what to do about a file or a folder that cannot be reached.
func hintOfPath(err error) string {
	switch {
	case errors.Is(err, syscall.ELOOP):
		return "its symbolic links lead back to themselves; point them at a file"
	case errors.Is(err, syscall.ENOTDIR):
		return "what stands before a / must be a folder"
	}
	return mayRead
}

func (x *examination) readable(path, file string) bool {
	f, err := plainfile.Open(file, os.O_RDONLY, 0)
	if err != nil {
		x.warn(path, file, hintOfPath(err), reason(err))
		return false
	}
	_ = f.Close()
	return true
}

// content records what is wrong with the content of a file, and reports whether it is
// good.
func (x *examination) content(err error) bool {
	var e *Error
	if errors.As(err, &e) {
		x.faults = append(x.faults, x.config.Fault(e.Path, e.Err, e.Hint))
	}
	return err == nil
}

// dockerSecrets is where a container finds the secrets of Docker and Podman. All users
// of the container may read them, and it is the container that keeps them apart.
const dockerSecrets = "/run/secrets/"

// secret warns of a file that every user of this host may read.
func (x *examination) secret(path, file string) {
	info, err := os.Stat(file)
	const others = 0o004
	if err != nil || runtime.GOOS == "windows" || info.Mode().Perm()&others == 0 || strings.HasPrefix(file, dockerSecrets) || !openToAll(file) {
		return
	}
	hint := "chmod o-rwx " + file
	if path == "broker.password" {
		hint += ", or keep it in password_file"
	}
	x.warn(path, file, hint, fmt.Errorf("every user of this host may read it, and the secret in it (mode %04o)", info.Mode().Perm()))
}

// openToAll reports whether every user gets as far as the file: one in a folder that is
// closed to others is closed to them, whatever its own mode.
func openToAll(file string) bool {
	real, err := filepath.EvalSymlinks(file)
	if err == nil {
		real, err = filepath.Abs(real)
	}
	if err != nil {
		return false
	}
	for dir := filepath.Dir(real); ; dir = filepath.Dir(dir) {
		info, err := os.Stat(dir)
		if err != nil || info.Mode().Perm()&0o001 == 0 {
			return false
		}
		if dir == filepath.Dir(dir) {
			return true
		}
	}
}

// own checks the dates of our own certificate, the first in its file.
func (x *examination) own(path, file string, now time.Time) {
	leaf := firstCertificate(file)
	if leaf == nil { // which is said of the pair
		return
	}
	left := leaf.NotAfter.Sub(now)
	switch {
	case left < 0:
		x.fault(path, file, renew, fmt.Errorf("the certificate has expired, at %s", utc(leaf.NotAfter)))
	case now.Before(leaf.NotBefore):
		x.warn(path, file, clock, fmt.Errorf("the certificate is not valid before %s, and here it is %s", utc(leaf.NotBefore), utc(now)))
	case left < soon(leaf):
		x.warn(path, file, renew, fmt.Errorf("the certificate expires at %s", utc(leaf.NotAfter)))
	}
}

func firstCertificate(file string) *x509.Certificate {
	data, err := readFile("", file, maxPEM)
	if err != nil {
		return nil
	}
	for block, rest := pem.Decode(data); block != nil; block, rest = pem.Decode(rest) {
		if block.Type == "CERTIFICATE" {
			c, _ := x509.ParseCertificate(block.Bytes) // nil with an error
			return c
		}
	}
	return nil
}

// authorities does the same for those that sign the broker's, of which one that is
// good may be enough.
func (x *examination) authorities(path, file string, list []*x509.Certificate, now time.Time) {
	expired := slices.DeleteFunc(slices.Clone(list), func(c *x509.Certificate) bool { return !now.After(c.NotAfter) })
	early := slices.DeleteFunc(slices.Clone(list), func(c *x509.Certificate) bool { return !now.Before(c.NotBefore) })
	ending := slices.DeleteFunc(slices.Clone(list), func(c *x509.Certificate) bool { return now.After(c.NotAfter) || c.NotAfter.Sub(now) >= soon(c) })
	switch n := len(list); {
	case len(expired) == n && n == 1:
		x.fault(path, file, renewCA, fmt.Errorf("the certificate has expired, at %s", utc(list[0].NotAfter)))
	case len(expired) == n:
		last := slices.MaxFunc(list, func(a, b *x509.Certificate) int { return a.NotAfter.Compare(b.NotAfter) })
		x.fault(path, file, renewCA, fmt.Errorf("all %d certificates have expired, the last at %s", n, utc(last.NotAfter)))
	case len(expired) > 0:
		x.warn(path, file, "take it out, unless a broker still has a certificate signed by it",
			fmt.Errorf("of %d certificates %d expired, the first of them (%s) at %s", n, len(expired), expired[0].Subject, utc(expired[0].NotAfter)))
	case len(early) > 0:
		x.warn(path, file, clock, fmt.Errorf("a certificate (%s) is not valid before %s, and here it is %s", early[0].Subject, utc(early[0].NotBefore), utc(now)))
	case len(ending) == n:
		x.warn(path, file, renewCA, fmt.Errorf("the certificate (%s) expires at %s", ending[0].Subject, utc(ending[0].NotAfter)))
	}
}

const (
	renew   = "renew it; topicast reads it at every connect, so no restart is needed"
	renewCA = "put the new certificate of the authority into it; topicast reads it at every connect, so no restart is needed"
	clock   = "see whether the clock of this host is right"
)

// soon returns how long before its end a certificate should have been renewed: two weeks,
// or a tenth of its time where that is less, as of those that live for a day.
func soon(c *x509.Certificate) time.Duration {
	return min(14*24*time.Hour, c.NotAfter.Sub(c.NotBefore)/10)
}

func utc(t time.Time) string { return t.UTC().Format("2006-01-02 15:04:05 UTC") }

// deadLetters looks where the file is to be.
func (x *examination) deadLetters(file string, can func(dir string) error) {
	const path = "broker.dead_letters"
	if file == "" {
		return
	}
	if info, err := os.Stat(file); err == nil && !info.Mode().IsRegular() {
		x.fault(path, file, "name a file, or a name that is free", errors.New("is not a file"))
	} else if err := can(filepath.Dir(file)); err != nil && !errors.Is(err, fs.ErrNotExist) { // it is made
		x.warn(path, file, "let the user that topicast runs as write in its folder (with systemd: ReadWritePaths=); else what is given up is lost",
			fmt.Errorf("cannot be written: %w", reason(err)))
	}
}

// spool looks at the folder of the spool. can returns why a folder cannot be written.
func (x *examination) spool(dir string, can func(dir string) error) {
	const path = "spool.dir"
	if dir == "" {
		return
	}
	info, err := os.Stat(dir)
	switch {
	case err == nil && !info.IsDir():
		x.fault(path, dir, "name a folder, or a name that is free", errors.New("is not a folder"))
	case err == nil:
		if err := can(dir); err != nil {
			x.warn(path, dir, "let the user that topicast runs as write there (with systemd: ReadWritePaths=); else what cannot go on waits in memory",
				fmt.Errorf("cannot be written: %w", reason(err)))
		}
	case errors.Is(err, fs.ErrNotExist):
		x.noSpool(path, dir, can)
	default:
		x.warn(path, dir, hintOfPath(err), reason(err))
	}
}

// noSpool reports whether the folder could be made. It is mentioned all the same, since
// the disk that belongs there may be missing.
func (x *examination) noSpool(path, dir string, can func(dir string) error) {
	hint := "if a disk belongs there, mount it before the start"
	if near := nearFile(dir); near != "" {
		hint = "did you mean " + near + "?"
	}
	above := filepath.Dir(dir)
	for above != filepath.Dir(above) {
		if _, err := os.Stat(above); err == nil {
			break
		}
		above = filepath.Dir(above)
	}
	if err := can(above); err != nil {
		x.warn(path, dir, hint, fmt.Errorf("there is no such folder, and it cannot be made in %s: %w", above, reason(err)))
		return
	}
	x.warn(path, dir, hint, errors.New("there is no such folder yet; topicast run makes it"))
}

// nearFile returns the file that was meant by one that is not there: of the first part of
// its path that does not exist, the name that is nearest in that folder.
func nearFile(file string) string {
	for part := file; ; part = filepath.Dir(part) {
		dir := filepath.Dir(part)
		if dir == part {
			return ""
		}
		if info, err := os.Stat(dir); err != nil || !info.IsDir() {
			continue
		}
		folder, err := os.Open(dir)
		if err != nil {
			return ""
		}
		defer folder.Close()
		const most = 1000
		names, _ := folder.Readdirnames(most)
		slices.Sort(names)
		near := mapping.Near(filepath.Base(part), names)
		if near == "" {
			return ""
		}
		meant := filepath.Join(dir, near) + strings.TrimPrefix(file, part)
		if _, err := os.Stat(meant); err != nil {
			return ""
		}
		return meant
	}
}
