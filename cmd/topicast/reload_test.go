package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"topicast/configs"
	"topicast/mapping"
)

// recorder keeps a log in mind.
type recorder struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (r *recorder) Write(p []byte) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.text.Write(p)
}

func (r *recorder) String() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.text.String()
}

func (r *recorder) logger() *slog.Logger { return slog.New(slog.NewTextHandler(r, nil)) }

func (r *recorder) has(t *testing.T, pattern string) {
	t.Helper()
	if !regexp.MustCompile("(?m)" + pattern).MatchString(r.String()) {
		t.Errorf("the log does not match %s:\n%s", pattern, r)
	}
}

// fakeBridge notes what it is told, in order.
type fakeBridge struct {
	told   chan string
	refuse error
	table  *mapping.Table
	gate   chan struct{} // if not nil, Reload waits for one of it
	busy   atomic.Bool
}

func (f *fakeBridge) Reload(ctx context.Context, table *mapping.Table) error {
	if !f.busy.CompareAndSwap(false, true) {
		f.told <- "two at once"
	}
	defer f.busy.Store(false)
	f.told <- fmt.Sprintf("reload %d", len(table.Send()))
	if f.gate != nil {
		select {
		case <-f.gate:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	if f.refuse == nil {
		f.table = table
	}
	return f.refuse
}

func (f *fakeBridge) Table() *mapping.Table { return f.table }

func (f *fakeBridge) ReloadFailed(err error) { f.told <- "failed: " + err.Error() }

const (
	oneRule  = "send:\n  - {filter: a, group: \"239.1.2.3:5000\", source: 127.0.0.1}\n"
	twoRules = oneRule + "  - {filter: b, group: \"239.1.2.3:5000\", source: 127.0.0.1}\n"
)

// reloadTest is a reloading of a file, with what it told.
type reloadTest struct {
	*reloading
	t      *testing.T
	file   string
	bridge *fakeBridge
	out    recorder
	hup    chan os.Signal
}

func newReloadTest(t *testing.T, yaml string) *reloadTest {
	t.Helper()
	t.Setenv("NOTIFY_SOCKET", "")
	r := &reloadTest{
		t: t, file: filepath.Join(t.TempDir(), "topicast.yaml"),
		bridge: &fakeBridge{told: make(chan string, 100)}, hup: make(chan os.Signal, 1),
	}
	r.write(yaml)
	load := func(file string) (*configs.Config, error) { return configs.Load(file, nil) }
	cfg, err := load(r.file)
	if err != nil {
		t.Fatal(err)
	}
	log := r.out.logger()
	r.bridge.table = cfg.Table
	r.reloading = &reloading{
		hangup: r.hup, load: load, bridge: r.bridge, manager: systemd{log}, level: new(slog.LevelVar), log: log,
		started: cfg, current: cfg,
	}
	return r
}

func (r *reloadTest) write(yaml string) {
	r.t.Helper()
	if err := os.WriteFile(r.file, []byte(yaml), 0o600); err != nil {
		r.t.Fatal(err)
	}
}

// told takes what the bridge was told next.
func (r *reloadTest) told(pattern string) {
	r.t.Helper()
	select {
	case got := <-r.bridge.told:
		if !regexp.MustCompile("^(?:" + pattern + ")").MatchString(got) {
			r.t.Fatalf("the bridge was told %q, want %s", got, pattern)
		}
	case <-time.After(20 * time.Second):
		r.t.Fatalf("the bridge was told nothing, want %s\n%s", pattern, &r.out)
	}
}

func (r *reloadTest) toldNothing() {
	r.t.Helper()
	select {
	case got := <-r.bridge.told:
		r.t.Fatalf("the bridge was told %q", got)
	default:
	}
}

func TestAReloadTakesOverRulesAndLevel(t *testing.T) {
	r := newReloadTest(t, oneRule)
	r.write("log: {level: debug}\n" + twoRules)
	r.reload(t.Context(), true)
	r.told("reload 2$")
	if got := r.level.Level(); got != slog.LevelDebug {
		t.Errorf("the level is %v", got)
	}
	r.out.has(t, `level=INFO msg="configuration reloaded" config=.*topicast.yaml send_rules=2 receive_rules=0 added=b$`)
	if strings.Contains(r.out.String(), "next start") {
		t.Errorf("log.level is taken over at once:\n%s", &r.out)
	}
}

func TestAReloadNamesWhatTakesEffectAtTheNextStart(t *testing.T) {
	r := newReloadTest(t, oneRule)
	changed := "broker: {url: mqtt://192.0.2.1, keep_alive: 7s}\nqueue: {size: 1MiB}\nspool: {dir: /x}\nloops: {time: 7s}\nweb: {listen: \"\"}\nlog: {level: error, format: json}\n"
	r.write(changed + oneRule)
	for range 2 { // it is so until the next start
		r.out.text.Reset()
		r.reload(t.Context(), true)
		r.told("reload 1$")
		r.out.has(t, `level=WARN msg="keys have changed that take effect at the next start" keys="broker.url, broker.keep_alive, queue.size, spool.dir, loops.time, web.listen, log.format"$`)
	}
	r.write(oneRule)
	r.out.text.Reset()
	r.reload(t.Context(), true)
	if strings.Contains(r.out.String(), "next start") {
		t.Errorf("all is as it was at the start:\n%s", &r.out)
	}
}

func TestABadConfigurationIsRefusedWithEveryFault(t *testing.T) {
	r := newReloadTest(t, oneRule)
	r.write("log: {level: debug}\nqueue: {size: 5}\n" + strings.Replace(oneRule, "239.", "10.", 1))
	r.reload(t.Context(), true)
	r.told(`failed: .*topicast.yaml:2:15: queue.size: .*\n.*topicast.yaml:4:\d+: send\[0\].group: `)
	r.toldNothing()
	const says = `level=ERROR msg="configuration not reloaded; the old one stays in force" err=".*topicast.yaml`
	r.out.has(t, says+`:2:15: queue.size: `)
	r.out.has(t, says+`:4:\d+: send\[0\].group: `)
	if got := r.level.Level(); got != slog.LevelInfo {
		t.Errorf("the level is %v", got)
	}
	if err := os.Remove(r.file); err != nil {
		t.Fatal(err)
	}
	r.reload(t.Context(), true)
	r.told("failed: .*topicast.yaml: no such file")
	r.write(twoRules)
	r.reload(t.Context(), true)
	r.told("reload 2$")
}

func TestWhatTheBridgeRefusesIsLoggedToo(t *testing.T) {
	r := newReloadTest(t, oneRule)
	r.bridge.refuse = errors.New("no more room")
	r.reload(t.Context(), true)
	r.told("reload 1$")
	r.told("failed: no more room")
	r.out.has(t, `level=ERROR msg="configuration not reloaded; the old one stays in force" err=".*: no more room"`)
}

func TestWarningsOfANewConfigurationAreLogged(t *testing.T) {
	r := newReloadTest(t, oneRule)
	r.write(strings.ReplaceAll(twoRules, "filter: b", "filter: +"))
	r.reload(t.Context(), true)
	r.out.has(t, `level=WARN msg=".*topicast.yaml:3:\d+: send\[1\]\.group: .*leaves twice"`)
}

// A change of the file is taken once, also where a signal was faster; a signal
// always is.
func TestAChangeOfTheFileIsTakenOnce(t *testing.T) {
	r := newReloadTest(t, oneRule)
	change := func(want string) {
		t.Helper()
		r.reload(t.Context(), false)
		if want != "" {
			r.told(want)
		}
		r.toldNothing()
	}
	change("")
	r.write(twoRules)
	change("reload 2$")
	change("")
	r.reload(t.Context(), true)
	r.told("reload 2$")
	r.write("nonsense: 1\n" + oneRule)
	change("failed: .*nonsense")
	change("")
	r.reload(t.Context(), true)
	r.told("failed: .*nonsense")
	r.write(twoRules)
	change("reload 2$") // the content of before, and no fault any more
	change("")
}

func TestReloadsFollowOneAnother(t *testing.T) {
	r := newReloadTest(t, oneRule)
	r.bridge.gate = make(chan struct{})
	ctx, cancel := context.WithCancel(t.Context())
	over := make(chan struct{})
	go func() {
		defer close(over)
		r.run(ctx)
	}()
	r.hup <- os.Interrupt // any
	r.told("reload 1$")
	r.hup <- os.Interrupt // while the first is at work
	r.bridge.gate <- struct{}{}
	r.told("reload 1$")
	r.bridge.gate <- struct{}{}
	r.write(twoRules) // nobody asks
	r.told("reload 2$")
	cancel() // in the middle of it
	<-over
	r.toldNothing()
	if strings.Contains(r.out.String(), "not reloaded") {
		t.Errorf("the end is no failure:\n%s", &r.out)
	}
}

// Whoever sends a signal reads in the log what came of it: taken over, unchanged or
// refused.
func TestASignalSaysWhatCameOfIt(t *testing.T) {
	r := newReloadTest(t, oneRule)
	for _, tt := range []struct{ yaml, says string }{
		{oneRule, `level=INFO msg="configuration unchanged; the file has the content that is in force" config=.*topicast.yaml send_rules=1 receive_rules=0$`},
		{twoRules, `level=INFO msg="configuration reloaded" config=.*topicast.yaml send_rules=2 receive_rules=0 added=b$`},
		{twoRules, `level=INFO msg="configuration unchanged; `},
		{"nonsense: 1\n" + oneRule, `level=ERROR msg="configuration not reloaded; `},
		{"nonsense: 1\n" + oneRule, `level=ERROR msg="configuration not reloaded; `},
		{twoRules, `level=INFO msg="configuration reloaded" `}, // mended
	} {
		r.write(tt.yaml)
		r.out.text.Reset()
		r.reload(t.Context(), true)
		<-r.bridge.told
		r.out.has(t, tt.says)
		if n := strings.Count(r.out.String(), "\n"); n != 1 {
			t.Errorf("%d lines:\n%s", n, &r.out)
		}
	}
}

// The watcher calls as soon as it sees the file that the start has refused.
func TestTheFaultOfARefusedStartIsSaidOnce(t *testing.T) {
	r := newReloadTest(t, oneRule)
	state := t.TempDir()
	t.Setenv("STATE_DIRECTORY", state)
	t.Chdir(filepath.Dir(r.file))
	if err := r.started.Keep(state); err != nil {
		t.Fatal(err)
	}
	r.write("nonsense: 1\n" + oneRule)
	cfg, refused, err := loadAtStart(t.Context(), "topicast.yaml", nil)
	if err != nil || refused == nil {
		t.Fatal(refused, err)
	}
	r.started, r.current = cfg, cfg
	r.refusedAtStart(refused)
	r.told("failed: ")
	r.reload(t.Context(), false)
	if got := strings.Count(r.out.String(), "nonsense: unknown key"); got != 1 {
		t.Errorf("said %d times:\n%s", got, &r.out)
	}
}

// What the watch has seen whole may be written to again before it is loaded.
func TestWhatIsBeingWrittenAgainIsNotTaken(t *testing.T) {
	r := newReloadTest(t, oneRule)
	r.write(twoRules)
	r.reloading.told = 1 // of another content
	r.reload(t.Context(), false)
	r.toldNothing()
	r.reload(t.Context(), true) // a signal means now
	r.told("reload 2$")
}

func TestAReloadNamesTheRulesThatAreNotAsBefore(t *testing.T) {
	r := newReloadTest(t, twoRules)
	r.write(oneRule + "  - {filter: b, group: \"239.1.2.3:5000\", source: 127.0.0.1, ttl: 2}\n  - {filter: c, group: \"239.1.2.3:5000\", source: 127.0.0.1}\n")
	r.reload(t.Context(), true)
	r.out.has(t, `msg="configuration reloaded" .* added=c changed=b$`)
	many := "send:\n"
	for i := range 9 {
		many += fmt.Sprintf("  - {filter: r%d, group: \"239.1.2.3:5000\", source: 127.0.0.1}\n", i)
	}
	r.write(many)
	r.reload(t.Context(), true)
	r.out.has(t, `msg="configuration reloaded" .* added="r0, r1, r2, 6 more" removed="a, b, c"$`)
	r.write(many + "# the same rules\n")
	r.reload(t.Context(), true)
	r.out.has(t, `msg="configuration reloaded" .* send_rules=9 receive_rules=0$`)
}
