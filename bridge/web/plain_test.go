package web

import (
	"net/http"
	"net/http/httptest"
	"net/url"
	"regexp"
	"strings"
	"testing"
	"time"

	"topicast/bridge"
	"topicast/bridge/account"
	"topicast/bridge/send"
)

// plainOf is what a browser without scripts is shown.
func plainOf(t *testing.T, b Bridge, path string) string {
	t.Helper()
	code, header, body := get(t, b, path)
	_, body, found := strings.Cut(body, "<noscript><div")
	body, _, ended := strings.Cut(body, "</noscript>")
	if code != http.StatusOK || !found || !ended || header.Get("Cache-Control") != "no-store" {
		t.Fatalf("%d %v %v %v", code, header, found, ended)
	}
	return body
}

// Without scripts there are the same rules, with what they say and what became of them.
func TestWithoutScriptsThePageHasTheRules(t *testing.T) {
	s := busy
	s.Host = "gateway"
	s.Summary = bridge.Summary{Rules: 4, Matched: 4, Losing: 1}
	s.Rules = []send.Status{{Name: "lamps", Filter: "lamp/+", Host: "192.0.2.7:5000", Interface: "iso0", Source: "172.17.0.1:4", State: account.StateUp, Received: 1234567,
		Lately: account.Lately{LastDrop: time.Now(), WaitingDisk: 7, DiskBytes: 3 << 20, WaitingMemory: 2, WaitingBytes: 2048, Settings: []string{"ttl 8"}}, Drops: map[string]uint64{"pending": 1000}, Filtered: map[string]uint64{"loop": 5}}}
	page := plainOf(t, newFake(s), "/")
	for _, want := range []string{
		">gateway</bdi>", ">gateway-7</bdi>", ">not ready<", "no connection to the broker: refused", ">not connected<", "3 (5.0 MiB of 64.0 MiB)", "1 losing, 0 pending",
		`<tr class="losing">`, "lamp/+ → 192.0.2.7:5000 on iso0 from 172.17.0.1:4", ">ttl 8<", ">1,234,567<", "2, 2.0 KiB; 7 on disk, 3.0 MiB", "1,000 pending", `filtered">5 loop`,
		`<tr class="degraded">`, "239.2.1.2:5000, 239.2.1.3-239.2.1.9:5000 on iso1 from 192.0.2.0/24 → &lt;script&gt;{source}&lt;/script&gt;", "1 of 8 groups are not joined", "from anybody", "4d4h",
	} {
		if !strings.Contains(page, want) {
			t.Errorf("it does not say %s", want)
		}
	}
	if title := regexp.MustCompile(`<title>(.*)</title>`).FindStringSubmatch(must(get(t, newFake(s), "/")))[1]; title != "1 losing – gateway / gateway-7 – topicast" {
		t.Errorf("the title is %q", title)
	}
}

func must(_ int, _ http.Header, body string) string { return body }

// What narrows the page narrows it without scripts too; what it does not understand it leaves out.
func TestWithoutScriptsThePageIsNarrowed(t *testing.T) {
	var asked bridge.Query
	b := newFake(busy)
	b.asked = &asked
	page := plainOf(t, b, "/?match=%22lamps%22&state=losing&sort=drops&limit=7&from=mail")
	if want := (bridge.Query{Match: `"lamps"`, State: "losing", Sort: "drops", Limit: rows}); asked != want {
		t.Errorf("asked for %+v", asked)
	}
	for _, want := range []string{`value="&#34;lamps&#34;"`, `<option selected value="losing">`, `<option selected value="drops">`, `<form action="/">`} {
		if !strings.Contains(page, want) {
			t.Errorf("it does not have %s", want)
		}
	}
	plainOf(t, b, "/?state=broken&sort=size")
	if want := (bridge.Query{Sort: "trouble", Limit: rows}); asked != want {
		t.Errorf("asked for %+v", asked)
	}
}

// A topic does not become markup, end the part of the page, or look like another.
func TestHostileNamesStayTextWithoutScripts(t *testing.T) {
	s := busy
	s.Host, s.Broker.ClientID = hostile, hostile
	s.Rules = []send.Status{{Name: hostile, Filter: hostile, Group: hostile, Reason: hostile, State: account.StatePending}}
	w := httptest.NewRecorder()
	pages(newFake(s)).ServeHTTP(w, httptest.NewRequest("GET", "/?match="+url.QueryEscape(hostile), nil))
	body := w.Body.String()
	if strings.Count(body, "<script") != 1 || strings.Count(body, "</noscript>") != 2 || strings.Contains(body, "<img") || strings.Contains(body, "\u202e") {
		t.Errorf("a name has become markup:\n%.3000s", plainOf(t, newFake(s), "/"))
	}
	if !strings.Contains(body, `\u202egnp`) {
		t.Error("what turns the direction of writing is not shown")
	}
}
