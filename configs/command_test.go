//go:build unix

package configs

import (
	"encoding/base64"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestACommandPrintsThePassword(t *testing.T) {
	b := &Broker{Command: "echo $((40 + 2))"}
	if p, err := b.Password(); p != "42" || err != nil {
		t.Errorf("%q, %v", p, err)
	}
	b.Command = `printf 'a\nb\n\n'`
	if p, err := b.Password(); p != "a\nb\n" || err != nil { // one newline does not belong to it
		t.Errorf("%q, %v", p, err)
	}
	for command, want := range map[string]string{
		"echo no such user >&2; exit 3":        `the command failed, exit status 3: it says "no such user" (run it by hand, as the user that topicast runs as)`,
		"true":                                 "the command has printed nothing",
		"/nonexistent/token":                   "the command failed, exit status 127: it says",
		"head -c 70000 /dev/zero | tr '\\0' x": "the command has printed more than 65535 bytes",
		"head -c 700000 /dev/zero >&2; false":  "the command failed",
	} {
		b.Command = command
		if p, err := b.Password(); p != "" || err == nil || !strings.Contains(err.Error(), want) || len(err.Error()) > 2000 {
			t.Errorf("%s: %.100q, %.1000v; want %s", command, p, err, want)
		}
	}
}

// What hangs is ended, with all that it has started.
func TestACommandThatHangsIsEnded(t *testing.T) {
	file := filepath.Join(t.TempDir(), "late")
	began := time.Now()
	_, err := runFor(200*time.Millisecond, "broker.password_command", "echo it waits >&2; (sleep 1; echo > "+file+")")
	if err == nil || !strings.Contains(err.Error(), `has not ended within 200ms, and was killed: it says "it waits"`) {
		t.Errorf("%v", err)
	}
	time.Sleep(time.Until(began.Add(1500 * time.Millisecond)))
	if _, err := os.Stat(file); err == nil {
		t.Error("what it had started goes on")
	}
}

// What a command has started ends with it, also where it does not wait for that.
func TestWhatACommandHasStartedEndsWithIt(t *testing.T) {
	file := filepath.Join(t.TempDir(), "late")
	for _, command := range []string{"(sleep 2; echo > " + file + ") & echo token", "(sleep 2; echo > " + file + ") >/dev/null 2>&1 & echo token"} {
		b := &Broker{Command: command}
		if p, err := b.Password(); p != "token" || err != nil {
			t.Errorf("%s: %q, %v", command, p, err)
		}
	}
	ended := make(chan error)
	go func() {
		_, err := runCommand("broker.password_command", "(sleep 2; echo > "+file+") & sleep 60")
		ended <- err
	}()
	started := func() bool {
		running.mu.Lock()
		defer running.mu.Unlock()
		return len(running.groups) > 0
	}
	for !started() {
		time.Sleep(time.Millisecond)
	}
	EndCommands()
	defer func() { running.ended = false }()
	if err := <-ended; err == nil {
		t.Error("a command that was ended has a password")
	}
	if _, err := runCommand("broker.password_command", "echo token"); err == nil {
		t.Error("one begins after the end")
	}
	time.Sleep(2500 * time.Millisecond)
	if _, err := os.Stat(file); err == nil {
		t.Error("what one had started goes on")
	}
}

func TestWhatATokenSaysOfItself(t *testing.T) {
	now := time.Unix(1_800_000_000, 0)
	token := func(claims string) string {
		return "eyJhbGciOiJub25lIn0." + base64.RawURLEncoding.EncodeToString([]byte(claims)) + ".sig"
	}
	for text, want := range map[string]time.Duration{
		token(`{"exp":1800003600}`):                    time.Hour,
		token(`{"exp":1800003600.5,"iat":1800000000}`): time.Hour,
		token(`{"exp":1800003600,"iat":1799990000}`):   time.Hour, // an old one
		token(`{"exp":1700003600,"iat":1700000000}`):   time.Hour, // our clock is ahead
		token(`{"exp":1900003600,"iat":1900000000}`):   time.Hour, // or behind
		token(`{"exp":1700003600}`):                    0,
		token(`{"exp":0}`):                             0,
		token(`{"exp":1e300}`):                         0,
		token(`{"exp":"soon"}`):                        0,
		token(`{"iat":1800000000}`):                    0,
		token(`no json`):                               0,
		"a.b":                                          0,
		"a.!.c":                                        0,
		"a.b.c.d":                                      0,
		"secret":                                       0,
		strings.Replace(token(`{"exp":1800003600}`), ".sig", "==.s", 1): time.Hour,
	} {
		if got := tokenLifetime(text, now).Truncate(time.Second); got != want {
			t.Errorf("%s: %v, want %v", text, got, want)
		}
	}
	soon := token(fmt.Sprintf(`{"exp":%d}`, time.Now().Add(30*time.Minute).Unix()))
	for _, tt := range []struct {
		given time.Duration
		token string
		want  time.Duration
	}{{0, "secret", 0}, {time.Hour, "secret", time.Hour}, {time.Hour, soon, 30 * time.Minute}, {time.Minute, soon, time.Minute}, {0, soon, 30 * time.Minute}} {
		b := &Broker{Lifetime: tt.given}
		if got := b.PasswordLifetime(tt.token); (got - tt.want).Abs() > 2*time.Second {
			t.Errorf("%v and %.10s: %v, want %v", tt.given, tt.token, got, tt.want)
		}
	}
}
