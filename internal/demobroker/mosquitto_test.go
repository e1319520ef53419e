package demobroker_test

import (
	"bufio"
	"fmt"
	"net"
	"net/url"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"topicast/internal/demobroker"
)

// The clients that the field uses to try a broker out.
func TestTheClientsOfMosquitto(t *testing.T) {
	for _, version := range []string{"mqttv311", "mqttv5"} {
		t.Run(version, func(t *testing.T) { clientsOfMosquitto(t, version) })
	}
}

func clientsOfMosquitto(t *testing.T, version string) {
	for _, qos := range []string{"0", "1", "2"} {
		t.Run("QoS "+qos, func(t *testing.T) {
			b := versioned{start(t), version}
			sub := mosquittoSub(t, b, "-t", "a/+/c", "-t", "x/#", "-q", qos, "-F", "%t %q %r %p")
			subscribed(t, b, 2)
			for _, m := range [][2]string{{"a/b/c", "1"}, {"a/b", "no"}, {"x", "2"}, {"x/y/z", "3"}, {"$x/y", "no"}, {"a//c", "4"}} {
				mosquittoPub(t, b, "-t", m[0], "-m", m[1], "-q", qos)
			}
			for _, want := range []string{"a/b/c " + qos + " 0 1", "x " + qos + " 0 2", "x/y/z " + qos + " 0 3", "a//c " + qos + " 0 4"} {
				if got := sub.next(t); got != want {
					t.Errorf("got %q, want %q", got, want)
				}
			}
		})
	}
	t.Run("the lower QoS counts", func(t *testing.T) {
		b := versioned{start(t), version}
		sub := mosquittoSub(t, b, "-t", "a", "-q", "1", "-F", "%q")
		subscribed(t, b, 1)
		mosquittoPub(t, b, "-t", "a", "-m", "x", "-q", "2")
		mosquittoPub(t, b, "-t", "a", "-m", "x", "-q", "0")
		if got := sub.next(t) + sub.next(t); got != "10" {
			t.Errorf("delivered with QoS %s, want 1 and 0", got)
		}
	})
	t.Run("many at once", func(t *testing.T) {
		b := versioned{start(t), version}
		sub := mosquittoSub(t, b, "-t", "a", "-q", "2", "-F", "%p")
		subscribed(t, b, 1)
		const n = 5000
		pub := mosquitto(t, b, "mosquitto_pub", "-t", "a", "-q", "1", "-l")
		var lines []string
		for i := range n {
			lines = append(lines, strings.Repeat("x", i%50)+"|")
		}
		pub.Stdin = strings.NewReader(strings.Join(lines, "\n") + "\n")
		if out, err := pub.CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		for i, want := range lines {
			if got := sub.next(t); got != want {
				t.Fatalf("message %d: got %q, want %q", i, got, want)
			}
		}
	})
	t.Run("retained", func(t *testing.T) {
		b := versioned{start(t), version}
		mosquittoPub(t, b, "-t", "r/1", "-m", "old", "-r", "-q", "1")
		mosquittoPub(t, b, "-t", "r/1", "-m", "new", "-r", "-q", "1")
		mosquittoPub(t, b, "-t", "r/2", "-m", "cleared", "-r", "-q", "1")
		mosquittoPub(t, b, "-t", "r/2", "-n", "-r", "-q", "1")
		sub := mosquittoSub(t, b, "-t", "r/#", "-q", "1", "-F", "%t %r %p")
		subscribed(t, b, 1)
		mosquittoPub(t, b, "-t", "r/3", "-m", "live", "-r")
		for _, want := range []string{"r/1 1 new", "r/3 0 live"} {
			if got := sub.next(t); got != want {
				t.Errorf("got %q, want %q", got, want)
			}
		}
	})
	t.Run("a will, unless the client says goodbye", func(t *testing.T) {
		var watch, killed *subscriber
		for try := 1; ; try++ {
			b := versioned{start(t), version}
			watch = mosquittoSub(t, b, "-t", "will/+", "-F", "%t %p")
			killed = mosquittoSub(t, b, "-t", "x", "--will-topic", "will/killed", "--will-payload", "gone", "--will-qos", "1")
			leaves := mosquittoSub(t, b, "-t", "x", "--will-topic", "will/leaves", "--will-payload", "gone")
			subscribed(t, b, 3)
			_ = leaves.cmd.Process.Signal(os.Interrupt)
			if leaves.ends() {
				break
			}
			// It says goodbye from its signal handler, where it may come to wait for a lock of its own, for ever.
			if try == 3 {
				t.Fatal("mosquitto_sub does not end")
			}
		}
		if version == "mqttv5" { // there it says goodbye, and asks for its will all the same
			if got := watch.next(t); got != "will/leaves gone" {
				t.Errorf("got %q", got)
			}
		}
		_ = killed.cmd.Process.Kill()
		if got := watch.next(t); got != "will/killed gone" {
			t.Errorf("got %q", got)
		}
	})
	t.Run("a client identifier is taken over", func(t *testing.T) {
		b := versioned{start(t), version}
		watch := mosquittoSub(t, b, "-t", "will", "-F", "%t %p")
		subscribed(t, b, 1)
		first := mosquittoSub(t, b, "-i", "me", "-t", "x", "--will-topic", "will", "--will-payload", "overtaken")
		subscribed(t, b, 2)
		second := mosquittoSub(t, b, "-i", "me", "-t", "x", "-F", "%p")
		if got := watch.next(t); got != "will overtaken" {
			t.Errorf("got %q", got)
		}
		_ = first.cmd.Process.Kill() // before it comes back and takes over in its turn
		mosquittoPub(t, b, "-t", "x", "-m", "for the second", "-r")
		if got := second.next(t); got != "for the second" {
			t.Errorf("got %q", got)
		}
	})
}

func TestAVersionThatIsNotSpokenIsRefused(t *testing.T) {
	b := versioned{start(t), "mqttv31"}
	out, err := mosquitto(t, b, "mosquitto_pub", "-t", "x", "-m", "x").CombinedOutput()
	if err == nil || !strings.Contains(strings.ToLower(string(out)), "version") {
		t.Errorf("%v: %s", err, out)
	}
}

// Each of the two versions gets what the other publishes, and properties go by from 5 to 5.
func TestMosquittosOfBothVersionsHearEachOther(t *testing.T) {
	b := start(t)
	sub5 := mosquittoSub(t, versioned{b, "mqttv5"}, "-t", "x", "-q", "1", "-F", "%p %C %R %D %P %E")
	sub311 := mosquittoSub(t, versioned{b, "mqttv311"}, "-t", "x", "-q", "1", "-F", "%p")
	subscribed(t, b, 2)
	mosquittoPub(t, versioned{b, "mqttv5"}, "-t", "x", "-m", "five", "-q", "1",
		"-D", "publish", "content-type", "text/plain", "-D", "publish", "response-topic", "answers/7", "-D", "publish", "correlation-data", "42",
		"-D", "publish", "user-property", "unit", "lamp", "-D", "publish", "message-expiry-interval", "60")
	mosquittoPub(t, versioned{b, "mqttv311"}, "-t", "x", "-m", "old", "-q", "1")
	for _, want := range []string{"five text/plain answers/7 42 unit:lamp 60", "old"} {
		if got := strings.TrimSpace(sub5.next(t)); got != want {
			t.Errorf("with MQTT 5 comes %q, want %q", got, want)
		}
	}
	for _, want := range []string{"five", "old"} {
		if got := sub311.next(t); got != want {
			t.Errorf("with MQTT 3.1.1 comes %q, want %q", got, want)
		}
	}
}

// A versioned is a broker, and the version that mosquitto's clients speak with it.
type versioned struct {
	*demobroker.Broker
	version string
}

type subscriber struct {
	cmd   *exec.Cmd
	lines chan string
}

// mosquittoSub starts a client, whose lines are what it receives.
func mosquittoSub(t *testing.T, b versioned, args ...string) *subscriber {
	t.Helper()
	s := &subscriber{mosquitto(t, b, "mosquitto_sub", args...), make(chan string, 10000)}
	out, err := s.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	s.cmd.Stderr = s.cmd.Stdout
	if err := s.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		defer close(s.lines)
		for lines := bufio.NewScanner(out); lines.Scan(); {
			s.lines <- lines.Text()
		}
	}()
	t.Cleanup(func() {
		_ = s.cmd.Process.Kill()
		for range s.lines {
		}
		_ = s.cmd.Wait()
	})
	return s
}

func subscribed(t *testing.T, b interface{ Subscriptions() int }, n int) {
	t.Helper()
	waitFor(t, fmt.Sprintf("%d subscriptions", n), func() bool { return b.Subscriptions() == n })
}

func (s *subscriber) next(t *testing.T) string {
	t.Helper()
	return within(t, s.lines)
}

// ends reports whether the client ends by itself within a while.
func (s *subscriber) ends() bool {
	late := time.After(10 * time.Second)
	for {
		select {
		case _, more := <-s.lines:
			if !more {
				return true
			}
		case <-late:
			return false
		}
	}
}

func mosquittoPub(t *testing.T, b versioned, args ...string) {
	t.Helper()
	if out, err := mosquitto(t, b, "mosquitto_pub", args...).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
}

func mosquitto(t *testing.T, b versioned, name string, args ...string) *exec.Cmd {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		skipOrFail(t, name+" is not installed")
	}
	u, err := url.Parse(b.URL())
	if err != nil {
		t.Fatal(err)
	}
	host, port, err := net.SplitHostPort(u.Host)
	if err != nil {
		t.Fatal(err)
	}
	return exec.Command(path, append([]string{"-h", host, "-p", port, "-V", b.version}, args...)...)
}
