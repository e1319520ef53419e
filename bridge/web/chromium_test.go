package web

import (
	"bufio"
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// browser is a Chromium that tests drive, by the protocol of its developer tools over two pipes
// (https://chromedevtools.github.io/devtools-protocol/).
type browser struct {
	t   *testing.T
	out *os.File

	mu      sync.Mutex
	last    int
	answers map[int]chan reply
	tabs    map[string]*tab
	closed  chan struct{}
}

type reply struct {
	Result json.RawMessage
	Error  *struct{ Message string }
}

// tab is a page in it.
type tab struct {
	*browser
	session string
	target  string
	faults  []string // what its console says that is wrong; guarded by mu
}

// startBrowser starts the one that TOPICAST_TEST_BROWSER names.
func startBrowser(t *testing.T) *browser {
	t.Helper()
	program := os.Getenv("TOPICAST_TEST_BROWSER")
	if program == "" {
		t.Skip("TOPICAST_TEST_BROWSER names no browser; .ci/browser does")
	}
	theirs, ours, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	in, theirOut, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	c := exec.Command(program, "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--hide-scrollbars", "--no-first-run",
		"--disable-background-networking", "--disable-component-update", "--proxy-server=127.0.0.1:9", "--proxy-bypass-list=127.0.0.1;*.example", "--host-resolver-rules=MAP *.example 127.0.0.1",
		"--remote-debugging-pipe", "--user-data-dir="+t.TempDir(), "about:blank")
	c.ExtraFiles = []*os.File{theirs, theirOut}
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	theirs.Close()
	theirOut.Close()
	b := &browser{t: t, out: ours, answers: make(map[int]chan reply), tabs: make(map[string]*tab), closed: make(chan struct{})}
	go b.read(in)
	t.Cleanup(func() {
		ours.Write([]byte(`{"id":999999,"method":"Browser.close"}` + "\x00"))
		end := time.AfterFunc(10*time.Second, func() { c.Process.Kill() })
		defer end.Stop()
		c.Wait()
		ours.Close()
		<-b.closed
	})
	return b
}

// read takes what the browser says, until it ends.
func (b *browser) read(in *os.File) {
	defer close(b.closed)
	defer in.Close()
	lines := bufio.NewReaderSize(in, 1<<20)
	for {
		text, err := lines.ReadBytes(0)
		if err != nil {
			return
		}
		var m struct {
			reply
			ID        int
			Method    string
			SessionID string
			Params    json.RawMessage
		}
		if json.Unmarshal(bytes.TrimSuffix(text, []byte{0}), &m) != nil {
			continue
		}
		b.mu.Lock()
		if c := b.answers[m.ID]; c != nil {
			delete(b.answers, m.ID)
			c <- m.reply
		}
		if t := b.tabs[m.SessionID]; t != nil {
			t.note(m.Method, m.Params)
		}
		b.mu.Unlock()
	}
}

// note remembers what the console of a page says that is wrong.
func (t *tab) note(method string, params json.RawMessage) {
	var p struct {
		Type             string
		Args             []struct{ Value, Description any }
		ExceptionDetails struct {
			Text      string
			Exception struct{ Description string }
		}
		Entry struct{ Level, Source, Text, URL string }
	}
	json.Unmarshal(params, &p)
	switch {
	case method == "Runtime.exceptionThrown":
		t.faults = append(t.faults, p.ExceptionDetails.Text+" "+p.ExceptionDetails.Exception.Description)
	case method == "Runtime.consoleAPICalled" && (p.Type == "error" || p.Type == "assert"):
		t.faults = append(t.faults, fmt.Sprint(p.Args))
	case method == "Log.entryAdded" && (p.Entry.Level == "error" || p.Entry.Source == "security" || p.Entry.Source == "violation"):
		t.faults = append(t.faults, p.Entry.Source+": "+p.Entry.Text+" "+p.Entry.URL)
	}
}

// call asks the browser for something, and waits for its answer.
func (b *browser) call(session, method string, params any) json.RawMessage {
	b.t.Helper()
	answer := make(chan reply, 1)
	b.mu.Lock()
	b.last++
	id := b.last
	b.answers[id] = answer
	b.mu.Unlock()
	m := map[string]any{"id": id, "method": method, "params": params}
	if session != "" {
		m["sessionId"] = session
	}
	text, err := json.Marshal(m)
	if err != nil {
		b.t.Fatal(err)
	}
	if _, err := b.out.Write(append(text, 0)); err != nil {
		b.t.Fatal(err)
	}
	select {
	case a := <-answer:
		if a.Error != nil {
			b.t.Fatalf("%s: %s", method, a.Error.Message)
		}
		return a.Result
	case <-time.After(time.Minute):
		b.t.Fatalf("%s: no answer", method)
	case <-b.closed:
		b.t.Fatalf("%s: the browser has ended", method)
	}
	return nil
}

type object = map[string]any

// open opens a page in a window of that size, light or dark, with scripts or without.
func (b *browser) open(url string, width, height int, scheme string, scripts bool) *tab {
	b.t.Helper()
	var made struct{ TargetID, SessionID string }
	json.Unmarshal(b.call("", "Target.createTarget", object{"url": "about:blank", "newWindow": true}), &made)
	json.Unmarshal(b.call("", "Target.attachToTarget", object{"targetId": made.TargetID, "flatten": true}), &made)
	t := &tab{browser: b, session: made.SessionID, target: made.TargetID}
	b.mu.Lock()
	b.tabs[t.session] = t
	b.mu.Unlock()
	t.do("Runtime.enable", object{})
	t.do("Log.enable", object{})
	t.do("Page.enable", object{})
	t.do("Emulation.setDeviceMetricsOverride", object{"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600})
	t.do("Emulation.setEmulatedMedia", object{"features": []object{{"name": "prefers-color-scheme", "value": scheme}}})
	t.do("Emulation.setScriptExecutionDisabled", object{"value": !scripts})
	t.do("Page.navigate", object{"url": url})
	return t
}

func (t *tab) close() {
	t.mu.Lock()
	delete(t.tabs, t.session)
	t.mu.Unlock()
	t.call("", "Target.closeTarget", object{"targetId": t.target})
}

func (t *tab) do(method string, params object) json.RawMessage {
	t.t.Helper()
	return t.call(t.session, method, params)
}

// eval is the value of an expression in the page.
func eval[T any](t *tab, expression string) (value T) {
	t.t.Helper()
	var r struct {
		Result           struct{ Value json.RawMessage }
		ExceptionDetails *struct {
			Text      string
			Exception struct{ Description string }
		}
	}
	json.Unmarshal(t.do("Runtime.evaluate", object{"expression": expression, "returnByValue": true, "awaitPromise": true}), &r)
	if r.ExceptionDetails != nil {
		t.t.Fatalf("%s: %s %s", expression, r.ExceptionDetails.Text, r.ExceptionDetails.Exception.Description)
	}
	json.Unmarshal(r.Result.Value, &value)
	return value
}

// await waits until an expression is true.
func (t *tab) await(what, expression string) {
	t.t.Helper()
	for end := time.Now().Add(15 * time.Second); time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
		if eval[bool](t, "(() => { try { return !!("+expression+") } catch { return false } })()") { // it may not be loaded yet
			return
		}
	}
	t.t.Errorf("%s: not within 15 s; the page says %.300s", what, eval[string](t, "document.body.innerText"))
}

// says reports faults of the console since it was asked last.
func (t *tab) says() (faults []string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	faults, t.faults = t.faults, nil
	return faults
}

// shoot writes a picture of the page into the folder TOPICAST_TEST_SCREENSHOTS, if there is one.
func (t *tab) shoot(name string) {
	t.t.Helper()
	dir := os.Getenv("TOPICAST_TEST_SCREENSHOTS")
	if dir == "" {
		return
	}
	var r struct{ Data string }
	json.Unmarshal(t.do("Page.captureScreenshot", object{"format": "png"}), &r)
	picture, err := base64.StdEncoding.DecodeString(r.Data)
	if err == nil {
		err = os.WriteFile(filepath.Join(dir, strings.ReplaceAll(name, " ", "-")+".png"), picture, 0o644)
	}
	if err != nil {
		t.t.Error(err)
	}
}
