package web

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"testing"
	"time"

	"topicast/bridge/tap"
)

// The page is looked at with a browser, where one is named: .ci/browser. With TOPICAST_TEST_SCREENSHOTS
// there are pictures of it.

func addrPort(s string) netip.AddrPort {
	a, _ := netip.ParseAddrPort(s)
	return a
}

// servePages serves the pages of a bridge, with graphs that have been going on for five minutes.
func servePages(t *testing.T, b Bridge, on *tap.Tap) (url string, s *Server) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s = serverOn(l, Options{Tap: on, Hosts: []string{"topicast.example"}}, b)
	if l, is := b.(*lively); is {
		s.live.past = newPast()
		now := time.Now()
		for i := graphPoints; i > 0; i-- {
			l.clock = func() time.Time { return now.Add(-time.Duration(i) * samplePeriod) }
			s.live.past.sample(l.Counts(), l.clock())
		}
		l.clock = time.Now
	}
	ended := make(chan error)
	ctx := t.Context()
	go func() { ended <- s.Serve(ctx) }()
	t.Cleanup(func() { s.live.end(); s.http.Close(); <-ended })
	return "http://" + s.Addr().String(), s
}

func TestThePageInABrowser(t *testing.T) {
	b := startBrowser(t)
	for _, rules := range []int{0, 8, 10_000} {
		for _, trouble := range []bool{false, true} {
			if rules == 0 && trouble {
				continue
			}
			on := new(tap.Tap)
			l := newLively(rules, trouble)
			url, _ := servePages(t, l, on)
			end := make(chan struct{})
			t.Cleanup(func() { close(end) })
			go chatter(on, l, end)
			for _, scheme := range []string{"light", "dark"} {
				tabs := map[int]*tab{}
				for width, height := range map[int]int{390: 844, 1280: 800, 2560: 1440} {
					tabs[width] = b.open(url+"/", width, height, scheme, true)
				}
				for width, p := range tabs {
					lookAtThePage(t, p, l, fmt.Sprintf("%d rules %s %d %s", rules, map[bool]string{false: "healthy", true: "trouble"}[trouble], width, scheme))
					p.close()
				}
			}
		}
	}
}

// carried is an expression for what came in by the first rule.
const carried = `(n => n.title || n.textContent)(document.querySelector("#rules tbody tr td:nth-child(4)"))`

// lookAtThePage holds what is to be so at any width, and of any number of rules.
func lookAtThePage(t *testing.T, p *tab, l *lively, name string) {
	p.await("it is live", `document.getElementById("lively").textContent === "live" && document.getElementById("version").textContent`)
	shown := min(l.rules, rows)
	p.await("rules are shown", fmt.Sprintf(`document.querySelectorAll("#rules tbody tr").length === %d`, shown))
	if title := eval[string](p, "document.title"); !strings.Contains(title, "gateway-7.plant.example / topicast-hall-3 – topicast") || strings.Contains(title, "losing") != (l.trouble && l.rules > 2) {
		t.Errorf("%s: the title is %q", name, title)
	}
	if wide := eval[int](p, "document.documentElement.scrollWidth - innerWidth"); wide > 0 {
		t.Errorf("%s: it is %d pixels wider than the window", name, wide)
	}
	if l.rules > 0 {
		if first := eval[string](p, `document.querySelector("#rules tbody tr .badge").textContent`); first != map[bool]string{false: "up", true: "losing"}[l.trouble] {
			t.Errorf("%s: the first rule is %s", name, first)
		}
		was := eval[string](p, carried)
		p.await("numbers change", carried+` !== `+quote(was))
		p.await("graphs are drawn", `document.querySelector("#rules tbody tr .graph .line").getAttribute("d").length > 100 && document.getElementById("graph-send").children.length`)
	}
	if l.trouble && l.rules == 8 {
		p.await("one is disabled", `[...document.querySelectorAll("#rules .badge")].some(b => b.textContent === "disabled")`)
	}
	p.shoot(name)
	if eval[int](p, "innerWidth") < 600 && l.rules == 8 {
		eval[any](p, `document.getElementById("count").scrollIntoView()`)
		p.await("graphs are drawn", `document.querySelector("#rules tbody tr .graph .line").getAttribute("d").length > 100`)
		p.shoot(name + " rules")
	}
	if faults := p.says(); faults != nil {
		t.Errorf("the console says %q", faults)
	}
}

func quote(s string) string { text, _ := json.Marshal(s); return string(text) }

func TestThePageIsUsedInABrowser(t *testing.T) {
	b := startBrowser(t)
	on := new(tap.Tap)
	l := newLively(10_000, true)
	url, s := servePages(t, l, on)
	end := make(chan struct{})
	defer close(end)
	go chatter(on, l, end)
	p := b.open(url+"/", 1280, 1000, "light", true)
	p.await("it is live", `document.querySelectorAll("#rules tbody tr").length === 100`)

	// More rules, found ones, those of a state; the address has the question.
	eval[any](p, `document.getElementById("more").click()`)
	p.await("there are more", `document.querySelectorAll("#rules tbody tr").length === 200`)
	eval[any](p, `{ const m = document.getElementById("match"); m.value = "LAMP-00"; m.dispatchEvent(new Event("input")) }`)
	p.await("a text is found", `[...document.querySelectorAll("#rules .name")].every(n => n.textContent.includes("lamp-00")) && document.getElementById("count").textContent.includes("of 10,000")`)
	if at := eval[string](p, "location.search"); at != "?match=LAMP-00" {
		t.Errorf("the address has %q", at)
	}
	eval[any](p, `{ const m = document.getElementById("match"); m.value = ""; m.dispatchEvent(new Event("input")) }`)
	eval[any](p, `document.getElementById("only-pending").click()`)
	p.await("a state is found", `[...document.querySelectorAll("#rules .badge")].every(n => n.textContent === "pending") && document.getElementById("count").textContent.includes("of 250 rules that match, of 10,000")`)
	eval[any](p, `document.getElementById("only-pending").click()`)
	p.await("all are back", `document.getElementById("count").textContent.includes("of 10,000") && document.querySelector("#rules .badge").textContent === "losing"`)

	// With as many rules as a page may have it stays quick; how quick is told, and not held: it goes by
	// what else the machine does.
	eval[any](p, `var longest = 0; new PerformanceObserver(l => { for (const e of l.getEntries()) longest = Math.max(longest, e.duration) }).observe({ type: "longtask" }); limit = mostRows, listen()`)
	p.await("a thousand are shown", `document.querySelectorAll("#rules tbody tr").length === 1000`)
	built := eval[float64](p, "longest")
	eval[any](p, `longest = 0, new Promise(done => setTimeout(done, 3 * every))`)
	t.Logf("1,000 of 10,000 rules: the longest task is %.0f ms when they are shown first, and %.0f ms when all of them change", built, eval[float64](p, "longest"))
	eval[any](p, `limit = step, listen()`)
	p.await("a hundred are shown", `document.querySelectorAll("#rules tbody tr").length === 100`)
	eval[any](p, `longest = 0, new Promise(done => setTimeout(done, 3 * every))`)
	t.Logf("100 of 10,000 rules: %.0f ms", eval[float64](p, "longest"))

	// What is in force of a rule.
	eval[any](p, `document.querySelector("#rules .name").click()`)
	p.await("a rule says what is in force", `document.querySelectorAll(".details .keys .set").length > 5 && document.querySelector(".details .graph .line").getAttribute("d")`)
	p.shoot("rule 1280 light")

	// A selection survives while numbers change.
	eval[any](p, `getSelection().selectAllChildren(document.querySelector("#rules tbody code"))`)
	was := eval[string](p, `getSelection() + "|" + `+carried)
	p.await("numbers change", carried+` !== `+quote(was[strings.Index(was, "|")+1:]))
	if now := eval[string](p, `getSelection() + ""`); now == "" || now != was[:strings.Index(was, "|")] {
		t.Errorf("%q was selected, now %q is", was, now)
	}

	// The live feed, which costs nothing while it is not open.
	if on.On() {
		t.Error("somebody watches, and the feed is not open")
	}
	eval[any](p, `document.activeElement.blur(), document.dispatchEvent(new KeyboardEvent("keydown", { key: "f" }))`)
	p.await("events come", `document.querySelectorAll("#feed-lines li").length > 20 && document.querySelector("#feed-lines .payload")`)
	p.shoot("feed 1280 light")
	eval[any](p, `{ const m = document.getElementById("feed-match"); m.value = "bad_group"; m.dispatchEvent(new Event("input")); document.getElementById("feed-clear").click() }`)
	p.await("a reason is found", `document.querySelectorAll("#feed-lines li").length > 3 && [...document.querySelectorAll("#feed-lines li")].slice(0, 3).every(n => n.textContent.includes("bad_group"))`)
	for range 20_000 { // more than a browser is shown
		on.Tell(tap.Event{Time: time.Now(), Decision: tap.Dropped, Rule: "flood", Reason: "bad_group"})
	}
	p.await("it is told what it missed", `/[0-9,]{5,} more that are not shown/.test(document.getElementById("feed-lines").textContent)`)
	if n := eval[int](p, `document.getElementById("feed-lines").children.length`); n > 300 {
		t.Errorf("%d lines are kept", n)
	}
	eval[any](p, `document.getElementById("feed-pause").click()`)
	waitFor(t, "nobody watches while it is paused", func() bool { return !on.On() })
	eval[any](p, `document.getElementById("feed-pause").click()`)
	waitFor(t, "it goes on", on.On)
	eval[any](p, `document.getElementById("feed-close").click()`)
	waitFor(t, "nobody watches once it is closed", func() bool { return !on.On() })

	// Another version brings another page.
	l.newer.Store(true)
	p.await("it loads itself anew", `performance.getEntriesByType("navigation")[0].type === "reload" && document.getElementById("version").textContent.includes("1.5.0")`)

	// Where all places are taken it asks for the status, and is live later.
	if faults := p.says(); faults != nil {
		t.Errorf("the console says %q", faults)
	}
	s.live.mu.Lock()
	s.live.most = 0
	s.live.mu.Unlock()
	other := b.open(url+"/?match=lamps", 1280, 800, "dark", true)
	other.await("it asks instead", `document.getElementById("lively").textContent === "every 2 s" && document.querySelectorAll("#rules tbody tr").length === 1`)
	count := eval[string](other, carried)
	other.await("and again", carried+` !== `+quote(count))
}

func waitFor(t *testing.T, what string, is func() bool) {
	t.Helper()
	for end := time.Now().Add(10 * time.Second); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		if is() {
			return
		}
	}
	t.Errorf("%s: not within 10 s", what)
}

// Without scripts the page has the same rules, and its form finds them.
func TestThePageInABrowserWithoutScripts(t *testing.T) {
	b := startBrowser(t)
	url, s := servePages(t, newLively(8, true), nil)
	for _, width := range []int{390, 1280} {
		p := b.open(url+"/", width, 800, "light", false)
		time.Sleep(time.Second)
		p.shoot(fmt.Sprintf("plain %d light", width))
		var doc struct{ Root struct{ NodeID int } }
		json.Unmarshal(p.do("DOM.getDocument", object{"depth": -1}), &doc)
		var html struct{ OuterHTML string }
		json.Unmarshal(p.do("DOM.getOuterHTML", object{"nodeId": doc.Root.NodeID}), &html)
		for _, want := range []string{`<table><colgroup>`, `<tr class="losing">`, "smart-meters", "interface iso1 is down", `http-equiv="refresh"`, `<div id="app" hidden`} {
			if !strings.Contains(html.OuterHTML, want) {
				t.Errorf("at %d pixels there is no %s", width, want)
			}
		}
		if faults := p.says(); faults != nil {
			t.Errorf("the console says %q", faults)
		}
	}
	s.live.mu.Lock()
	defer s.live.mu.Unlock()
	if s.live.running {
		t.Error("it samples, and no page is live")
	}
}

// hostile are names as nobody should have them.
const hostile = "<img src=x onerror=alert(1)></noscript><script>alert(2)</script>\u202egnp.\"'&amp;{{script}}"

// Names and topics of strangers stay text, whatever they have in them, in the feed too.
func TestHostileNamesInABrowser(t *testing.T) {
	b := startBrowser(t)
	on := new(tap.Tap)
	l := newLively(4, true)
	l.names = []string{hostile, strings.Repeat("x", 200), "lamps", "__proto__"}
	url, _ := servePages(t, l, on)
	for _, width := range []int{390, 1280} {
		p := b.open(url+"/", width, 900, "dark", true)
		p.await("rules are shown", `document.querySelectorAll("#rules tbody tr").length === 4`)
		eval[any](p, `document.getElementById("feed-open").click()`)
		p.await("the feed is open", `document.getElementById("feed-note").textContent !== "…"`)
		on.Tell(tap.Event{Time: time.Now(), Decision: tap.Dropped, Direction: tap.Send, Rule: hostile, Topic: hostile, Detail: hostile, Reason: "bad_group", Payload: []byte(hostile)})
		p.await("the event is shown", `document.getElementById("feed-lines").textContent.includes("alert(2)")`)
		if wrong := eval[string](p, `[...document.querySelectorAll("#app img, #app script, #app noscript, body > script ~ script")].map(n => n.outerHTML).join()`); wrong != "" {
			t.Errorf("a name has become markup: %s", wrong)
		}
		if !eval[bool](p, `[...document.querySelectorAll("#rules .name")].some(n => n.textContent === `+quote(visible(hostile))+`)`) {
			t.Error("the hostile name is not there as it is")
		}
		if wide := eval[int](p, "document.documentElement.scrollWidth - innerWidth"); wide > 0 {
			t.Errorf("at %d it is %d pixels wider than the window", width, wide)
		}
		if eval[bool](p, `document.title.includes("\u202e") || document.body.textContent.includes("\u202e")`) {
			t.Error("something turns the direction of writing")
		}
		p.shoot(fmt.Sprintf("hostile %d dark", width))
		if faults := p.says(); faults != nil {
			t.Errorf("the console says %q", faults)
		}
	}
}

// The page of another site, and one that has given its name our address (DNS rebinding), gets nothing
// in a real browser.
func TestStrangersInABrowser(t *testing.T) {
	b := startBrowser(t)
	on := new(tap.Tap)
	url, s := servePages(t, newLively(8, false), on)
	port := url[strings.LastIndex(url, ":"):]
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	stranger := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/html")
		fmt.Fprint(w, "<title>stranger</title>")
	}), ErrorLog: slog.NewLogLogger(slog.DiscardHandler, 0)}
	go stranger.Serve(l)
	defer stranger.Close()
	at := l.Addr().String()
	for name, page := range map[string]string{"another site": "http://evil.example" + at[strings.LastIndex(at, ":"):] + "/", "another port": "http://" + at + "/"} {
		p := b.open(page, 800, 600, "light", true)
		p.await("it is there", `document.title === "stranger"`)
		for _, path := range []string{"/events", "/feed"} {
			got := eval[string](p, `new Promise(done => { const s = new EventSource(`+quote(url+path)+`); s.onmessage = () => done("told"); s.onerror = () => done("refused"); setTimeout(() => done("nothing"), 4000) })`)
			if got != "refused" {
				t.Errorf("%s, %s: %s", name, path, got)
			}
		}
		for _, path := range []string{"/status", "/rule?name=lamps", "/events"} {
			if got := eval[string](p, `fetch(`+quote(url+path)+`).then(r => r.text(), () => "refused")`); got != "refused" {
				t.Errorf("%s, %s: %.80s", name, path, got)
			}
		}
	}
	// With the name of a stranger that leads to us; and with one that the configuration has.
	p := b.open("http://evil.example"+port+"/healthz", 800, 600, "light", true)
	p.await("it is refused", `document.body.innerText.includes("add it to web.hosts")`)
	for _, path := range []string{"/events", "/feed", "/status", "/rule?name=lamps", "/"} {
		if got := eval[int](p, `fetch(`+quote(path)+`).then(r => r.status)`); got != http.StatusMisdirectedRequest {
			t.Errorf("rebound, %s: %d", path, got)
		}
	}
	named := b.open("http://topicast.example"+port+"/", 800, 600, "light", true)
	named.await("a name of ours is live", `document.getElementById("lively").textContent === "live"`)
	waitFor(t, "no stranger has a place", func() bool {
		s.live.mu.Lock()
		defer s.live.mu.Unlock()
		return s.live.viewers == 1
	})
	if on.On() {
		t.Error("a stranger watches")
	}
}
