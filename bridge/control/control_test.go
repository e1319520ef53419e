package control

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"topicast/bridge/account"
	"topicast/bridge/tap"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// status is what the web pages have.
var status = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { w.Write([]byte(r.URL.RequestURI() + "\n")) })

// directed is a bridge with a rule.
type directed struct{}

func (directed) Known(name string) error {
	if name != "r" {
		return errors.New(`there is no rule "` + name + `"`)
	}
	return nil
}

func (directed) Rejoin(name string) ([]string, error) {
	if name != "meters & more" {
		return nil, errors.New("no such rule")
	}
	return []string{name + "@eth0"}, nil
}

func (directed) Disable(name, by string) ([]string, error) { return []string{"off " + name, by}, nil }
func (directed) Enable(name, by string) ([]string, error)  { return []string{"on " + name, by}, nil }

func (directed) Flush(name string, all bool, by string) ([]account.Flushed, error) {
	return []account.Flushed{{Rule: fmt.Sprint(name, all, by), Memory: 1, Disk: 2, Left: true}}, nil
}

func TestWhatIsDirectedIsDoneOrAnError(t *testing.T) {
	c, _ := serve(t)
	if rules, err := c.Rejoin(t.Context(), "meters & more"); err != nil || len(rules) != 1 || rules[0] != "meters & more@eth0" {
		t.Errorf("%q, %v", rules, err)
	}
	if _, err := c.Rejoin(t.Context(), "other"); err == nil || err.Error() != "no such rule" {
		t.Errorf("%v", err)
	}
	me := unknownAsker
	if u, err := user.Current(); err == nil && runtime.GOOS == "linux" {
		me = u.Username
	}
	if rules, err := c.Disable(t.Context(), "meters"); err != nil || !slices.Equal(rules, []string{"off meters", me}) {
		t.Errorf("disable: %q, %v", rules, err)
	}
	if rules, err := c.Enable(t.Context(), "meters"); err != nil || !slices.Equal(rules, []string{"on meters", me}) {
		t.Errorf("enable: %q, %v", rules, err)
	}
	for all, want := range map[bool]string{false: "metersfalse" + me, true: "true" + me} {
		if done, err := c.Flush(t.Context(), "meters", all); err != nil || !slices.Equal(done, []account.Flushed{{Rule: want, Memory: 1, Disk: 2, Left: true}}) {
			t.Errorf("flush: %+v, %v", done, err)
		}
	}
	// What a page of a browser or a slip of curl asks for changes nothing.
	if _, err := c.do(t.Context(), "GET", "/rejoin", map[string][]string{"rule": {"meters & more"}}); err == nil {
		t.Error("it is done for a GET")
	}
}

// serve is a bridge with a socket, and one who asks it.
func serve(t *testing.T) (*Client, *tap.Tap) {
	t.Helper()
	on := new(tap.Tap)
	s, err := Listen(Options{Path: filepath.Join(t.TempDir(), "c"), Status: status, Bridge: directed{}, Tap: on})
	if err != nil {
		t.Fatal(err)
	}
	ctx, end := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- s.Serve(ctx) }()
	t.Cleanup(func() {
		end()
		if err := <-ended; err != nil {
			t.Error(err)
		}
		if _, err := os.Lstat(s.socket.path); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("the socket is there after the end: %v", err)
		}
	})
	c, err := Dial(t.Context(), filepath.Join(t.TempDir(), "nothing"), s.socket.path)
	if err != nil {
		t.Fatal(err)
	}
	return c, on
}

func TestTheStatusIsThatOfTheWebPages(t *testing.T) {
	c, _ := serve(t)
	var got bytes.Buffer
	if err := c.Status(t.Context(), map[string][]string{"match": {"a b"}}, &got); err != nil || got.String() != "/status?match=a+b\n" {
		t.Errorf("%q, %v", got.String(), err)
	}
}

func TestEventsAreStreamedAsTheyAreAskedFor(t *testing.T) {
	c, on := serve(t)
	var got []string
	began := func() {
		for _, e := range []tap.Event{
			{Topic: "a/1", Rule: "r", Decision: tap.Sent, Payload: []byte("hello")},
			{Topic: "b/1", Rule: "r", Decision: tap.Dropped, Payload: []byte("other topic")},
			{Topic: "a/2", Rule: "other", Decision: tap.Dropped},
			{Topic: "a/3", Rule: "r", Decision: tap.Filtered, Payload: []byte("hello")},
		} {
			on.Tell(e)
		}
	}
	err := c.Watch(t.Context(), Watch{Topic: "a/+", Rule: "r", Lost: true, Payload: 2, Began: began}, func(e *tap.Event, missed uint64) bool {
		got = append(got, e.Topic+" "+string(e.Decision)+" "+string(e.Payload))
		return e.Topic != "a/3"
	})
	if want := "a/3 filtered he"; err != nil || strings.Join(got, ", ") != want {
		t.Errorf("%q, %v; want %q", got, err, want)
	}
}

// Nothing would ever be seen of it.
func TestARuleThatThereIsNotCannotBeWatched(t *testing.T) {
	c, on := serve(t)
	began := func() { on.Tell(tap.Event{Rule: "lmps"}) } // or it would wait
	err := c.Watch(t.Context(), Watch{Rule: "lmps", Began: began}, func(*tap.Event, uint64) bool { return false })
	if err == nil || err.Error() != `there is no rule "lmps"` {
		t.Errorf("%v", err)
	}
}

func TestWhatWasHeardIsAskedFor(t *testing.T) {
	c, on := serve(t)
	for _, heard := range []bool{false, true} {
		began := func() {
			on.Tell(tap.Event{Decision: tap.Heard, Datagram: 7})
			on.Tell(tap.Event{Decision: tap.Published, Datagram: 7})
		}
		var first tap.Event
		err := c.Watch(t.Context(), Watch{Heard: heard, Began: began}, func(e *tap.Event, _ uint64) bool { first = *e; return false })
		if err != nil || heard != (first.Decision == tap.Heard) || first.Datagram != 7 {
			t.Errorf("asked %t: the first is %+v, %v", heard, first, err)
		}
	}
}

func TestWhoWatchesIsToldHowManyEventsItHasMissed(t *testing.T) {
	c, on := serve(t)
	const all = 30_000
	seen, lost := 0, 0
	began := func() {
		for range all {
			on.Tell(tap.Event{})
		}
	}
	err := c.Watch(t.Context(), Watch{Began: began}, func(e *tap.Event, missed uint64) bool {
		if lost += int(missed); missed == 0 {
			seen++
		}
		return seen+lost < all
	})
	if err != nil || lost == 0 || seen+lost != all {
		t.Errorf("%d events, and %d missed: %v", seen, lost, err)
	}
}

func TestAWatchEndsWithTheBridge(t *testing.T) {
	s, err := Listen(Options{Path: filepath.Join(t.TempDir(), "c"), Status: status, Bridge: directed{}, Tap: new(tap.Tap)})
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- s.Serve(context.Background()) }()
	err = newClient(s.socket.path).Watch(t.Context(), Watch{Began: func() { go s.Close() }}, func(*tap.Event, uint64) bool { return true })
	if !errors.Is(err, ErrEnded) {
		t.Errorf("%v, want that it has ended", err)
	}
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

// A program of another version may ask for what there is not.
func TestWhatThereIsNotIsAnError(t *testing.T) {
	c, on := serve(t)
	for name, query := range map[string]map[string][]string{
		"a parameter":   {"tpoic": {"a"}},
		"a filter":      {"topic": {"a/#/b"}},
		"an address":    {"to": {"here"}},
		"a number":      {"payload": {"-1"}},
		"true or false": {"lost": {"perhaps"}},
		"likewise":      {"heard": {"perhaps"}},
	} {
		if _, err := c.do(t.Context(), "GET", "/tap", query); err == nil {
			t.Errorf("%s that is none is taken", name)
		}
	}
	if _, err := c.do(t.Context(), "GET", "/other", nil); err == nil || !strings.Contains(err.Error(), "older") {
		t.Errorf("an operation: %v", err)
	}
	for range tap.MaxWatchers {
		w, _ := on.Watch(tap.Filter{})
		defer w.Close()
	}
	if err := c.Watch(t.Context(), Watch{}, nil); err == nil || err.Error() != tap.ErrFull.Error() {
		t.Errorf("one too many: %v", err)
	}
}

func TestASocketThatAProgramHasLeftIsReplaced(t *testing.T) {
	path := filepath.Join(t.TempDir(), "made", "c")
	if err := os.Mkdir(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	left, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	left.SetUnlinkOnClose(false)
	left.Close()
	if _, err := Dial(t.Context(), path); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("who asks there is told %v", err)
	}
	s, err := listen(path)
	if err != nil {
		t.Fatal(err)
	}
	s.Close()
}

// To open a pipe would wait for who writes to it, and with it the start.
func TestAPipeInPlaceOfTheFolderIsNotWaitedFor(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "pipe")
	if out, err := exec.Command("mkfifo", dir).CombinedOutput(); err != nil {
		t.Fatal(err, string(out))
	}
	if _, err := listen(filepath.Join(dir, "c")); !errors.Is(err, syscall.ENOTDIR) {
		t.Error(err)
	}
}

// Each looks whether somebody is there, and removes what nobody listens at.
func TestOfManyThatStartAtATimeOneHasTheSocket(t *testing.T) {
	path := filepath.Join(t.TempDir(), "c")
	for range 20 {
		left, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
		if err != nil {
			t.Fatal(err)
		}
		left.SetUnlinkOnClose(false)
		left.Close()
		var opened []*socket
		var all sync.WaitGroup
		var mu sync.Mutex
		for range 8 {
			all.Go(func() {
				if s, err := listen(path); err == nil {
					mu.Lock()
					defer mu.Unlock()
					opened = append(opened, s)
				} else if !errors.Is(err, ErrInUse) {
					t.Error(err)
				}
			})
		}
		all.Wait()
		for _, s := range opened {
			s.Close()
		}
		if len(opened) != 1 {
			t.Fatalf("%d opened it", len(opened))
		}
	}
}

func TestASocketThatIsInUseIsAnErrorThatNamesItAndStays(t *testing.T) {
	path := filepath.Join(t.TempDir(), "c")
	first, err := listen(path)
	if err != nil {
		t.Fatal(err)
	}
	defer first.Close()
	if _, err = listen(path); !errors.Is(err, ErrInUse) || !strings.Contains(err.Error(), path) {
		t.Errorf("%v", err)
	}
	if _, err := os.Lstat(path); err != nil {
		t.Error(err)
	}
}

func TestAFileThatIsNoSocketStays(t *testing.T) {
	path := filepath.Join(t.TempDir(), "c")
	if err := os.WriteFile(path, []byte("mine"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := listen(path); err == nil || errors.Is(err, ErrInUse) {
		t.Errorf("%v", err)
	}
	if text, _ := os.ReadFile(path); string(text) != "mine" {
		t.Error("it was replaced")
	}
}

// Whatever the umask is, there is no moment at which others may connect.
func TestTheSocketIsForNobodyElseFromTheStart(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("the mode of a socket before it is bound is Linux's")
	}
	path := filepath.Join(t.TempDir(), "c")
	l, err := listenUnix(path)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if is, _ := os.Lstat(path); is.Mode().Perm()&0o007 != 0 || is.Mode().Perm()&0o700 != 0o600 {
		t.Errorf("the socket is %v", is.Mode())
	}
}

func TestTheSocketIsForTheUserAndTheGroupAlone(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("Windows has no such permissions")
	}
	dir := filepath.Join(t.TempDir(), "topicast")
	s, err := listen(filepath.Join(dir, "c"))
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	is, _ := os.Lstat(s.path)
	folder, _ := os.Lstat(dir)
	if is.Mode().Perm() != 0o660 || folder.Mode().Perm() != 0o750 {
		t.Errorf("the socket is %v, in a folder that was made %v", is.Mode(), folder.Mode())
	}
	private := t.TempDir()
	if err := os.Chmod(private, 0o700); err != nil {
		t.Fatal(err)
	}
	other, err := listen(filepath.Join(private, "c"))
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	if folder, _ := os.Lstat(private); folder.Mode().Perm() != 0o700 {
		t.Errorf("a folder that was there became %v", folder.Mode())
	}
}

// Of two that were started one after the other, the first ends later.
func TestTheSocketOfAnotherIsNotRemovedAtTheEnd(t *testing.T) {
	path := filepath.Join(t.TempDir(), "c")
	first, err := listen(path)
	if err != nil {
		t.Fatal(err)
	}
	os.Remove(path)
	second, err := listen(path)
	if err != nil {
		t.Fatal(err)
	}
	defer second.Close()
	first.Close()
	if _, err := os.Lstat(path); err != nil {
		t.Error(err)
	}
}

func TestConnectionsAreBoundedAndOthersWaitForTheirTurn(t *testing.T) {
	c, _ := serve(t)
	var all []net.Conn
	for range maxConnections {
		conn, err := net.Dial("unix", c.Path)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, conn)
		defer conn.Close()
	}
	var done atomic.Bool
	answered := make(chan error, 1)
	go func() {
		err := c.Status(t.Context(), nil, new(bytes.Buffer))
		if !done.Load() && err == nil {
			err = errors.New("it was answered before another had gone")
		}
		answered <- err
	}()
	time.Sleep(50 * time.Millisecond) // it cannot be known that it waits
	done.Store(true)
	all[0].Close()
	if err := <-answered; err != nil {
		t.Error(err)
	}
}

func TestAWriteThatNobodyReadsEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		here, there := net.Pipe()
		defer there.Close()
		began := time.Now()
		n, err := patient{here}.Write(make([]byte, 100))
		if took := time.Since(began); n != 0 || !errors.Is(err, os.ErrDeadlineExceeded) || took != writePatience {
			t.Errorf("%d written in %v: %v", n, took, err)
		}
	})
}
