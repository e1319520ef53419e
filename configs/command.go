package configs

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"os/exec"
	"strings"
	"time"
)

const (
	// commandTime is how long a command may take that prints a password.
	commandTime = 20 * time.Second
	// maxSaid is how much is shown of what a command says about its failure.
	maxSaid = 300
)

// head keeps the first bytes that are written to it. It is no bytes.Buffer, which would read all that
// there is by itself (io.ReaderFrom).
type head struct {
	kept []byte
	most int
}

func (h *head) Write(b []byte) (int, error) {
	h.kept = append(h.kept, b[:min(len(b), h.most-len(h.kept))]...)
	return len(b), nil
}

// runCommand returns what a command prints that a key has, less one newline at the end.
func runCommand(path, command string) (string, error) {
	return runFor(commandTime, path, command)
}

func runFor(limit time.Duration, path, command string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	c := shell(ctx, command)
	out, said := &head{most: maxPassword + 3}, &head{most: maxSaid}
	c.Stdout, c.Stderr, c.WaitDelay = out, said, time.Second
	err := runAndEnd(c)
	if errors.Is(err, exec.ErrWaitDelay) { // what it has started had its output, and has ended with it
		err = nil
	}
	fault := func(hint, format string, args ...any) (string, error) {
		return "", &Error{Path: path, Err: fmt.Errorf(format, args...), Hint: hint}
	}
	says := ""
	if text := strings.TrimSpace(strings.ToValidUTF8(string(said.kept), "")); text != "" {
		says = fmt.Sprintf(": it says %q", text)
	}
	password := strings.TrimSuffix(strings.TrimSuffix(string(out.kept), "\n"), "\r")
	var exit *exec.ExitError
	switch {
	case ctx.Err() != nil:
		return fault("run it by hand, as the user that topicast runs as", "the command has not ended within %v, and was killed%s", limit, says)
	case errors.As(err, &exit):
		return fault("run it by hand, as the user that topicast runs as", "the command failed, %v%s", err, says)
	case err != nil:
		return fault("", "the command cannot be run: %w", err)
	case password == "":
		return fault("it has to write the password to its standard output", "the command has printed nothing%s", says)
	case len(password) > maxPassword:
		return fault("it has to write the password alone to its standard output", "the command has printed more than %d bytes", maxPassword)
	}
	return password, nil
}

// PasswordLifetime returns how long a password is good for that was got just now: password_lifetime, or
// what a JSON Web Token (RFC 7519) says of itself, whichever is less; 0: that is not known.
func (b *Broker) PasswordLifetime(password string) time.Duration {
	life := tokenLifetime(password, time.Now())
	if given := b.Lifetime; life <= 0 || given > 0 && given < life {
		life = given
	}
	return life
}

// tokenLifetime returns how long a JSON Web Token is good for; 0: it is none, or does not say. Where the
// clock of this host is wrong, what the token says of its own beginning bounds it. Whether it is genuine
// is the broker's affair.
func tokenLifetime(token string, now time.Time) time.Duration {
	parts := strings.Split(token, ".")
	if len(parts) != 3 {
		return 0
	}
	claims, err := base64.RawURLEncoding.DecodeString(strings.TrimRight(parts[1], "="))
	if err != nil {
		return 0
	}
	var of struct {
		Exp, Iat float64
	}
	if json.Unmarshal(claims, &of) != nil || of.Exp <= 0 {
		return 0
	}
	seconds := of.Exp - float64(now.UnixMilli())/1000
	if of.Iat > 0 && of.Iat < of.Exp && (seconds <= 0 || seconds > of.Exp-of.Iat) {
		seconds = of.Exp - of.Iat
	}
	if seconds <= 0 || seconds > float64(math.MaxInt64/int64(time.Second)) {
		return 0
	}
	return time.Duration(seconds * float64(time.Second))
}
