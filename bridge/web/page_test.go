package web

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"topicast/bridge"
	"topicast/bridge/send"
)

// What the page runs and how it looks is named by its hash; a topic or an error text can
// never become a script, whatever the page's own script does with it.
func TestThePageRunsItsOwnScriptAlone(t *testing.T) {
	code, header, body := get(t, newFake(busy), "/")
	if code != http.StatusOK || header.Get("Content-Type") != "text/html; charset=utf-8" {
		t.Fatalf("%d %v", code, header)
	}
	policy := header.Get("Content-Security-Policy")
	for _, element := range []string{"script", "style"} {
		found := regexp.MustCompile(`(?s)<`+element+`>(.*?)</`+element+`>`).FindAllStringSubmatch(body, -1)
		if len(found) != 1 || strings.Count(body, "<"+element) != 1 {
			t.Fatalf("%d elements %s, want one", len(found), element)
		}
		sum := sha256.Sum256([]byte(found[0][1]))
		if want := element + "-src 'sha256-" + base64.StdEncoding.EncodeToString(sum[:]) + "'"; !strings.Contains(policy, want) {
			t.Errorf("the policy %q lacks %s", policy, want)
		}
	}
	if !strings.HasPrefix(policy, "default-src 'none'; ") || strings.Contains(policy, "unsafe") {
		t.Errorf("the policy is %q", policy)
	}
	// Nothing from elsewhere, no markup made of text, and nothing that the policy forbids.
	if found := regexp.MustCompile(`(?i)https?://|\bsrc=|innerHTML|outerHTML|insertAdjacent|document\.write|\beval\(|\son[a-z]+=|\sstyle=`).FindAllString(body, -1); found != nil {
		t.Errorf("the page has %q", found)
	}
}

func TestThePageIsSentOnceToABrowserThatKeepsIt(t *testing.T) {
	_, header, _ := get(t, newFake(busy), "/")
	r := httptest.NewRequest("GET", "/", nil)
	r.Header.Set("If-None-Match", `"other", `+header.Get("ETag"))
	w := httptest.NewRecorder()
	Handler(newFake(busy)).ServeHTTP(w, r)
	if w.Code != http.StatusNotModified || w.Body.Len() != 0 {
		t.Errorf("%d with %d bytes, want 304 with none", w.Code, w.Body.Len())
	}
}

func TestAStatusThatIsNarrowedIsCompactAndSentWhenItHasChanged(t *testing.T) {
	var asked bridge.Query
	b := newFake(busy)
	b.asked = &asked
	const path = "/status?match=Lamps&state=losing&sort=drops&limit=20"
	_, header, body := get(t, b, path)
	if diff := cmp.Diff(bridge.Query{Match: "Lamps", State: "losing", Sort: "drops", Limit: 20}, asked); diff != "" {
		t.Errorf("asked for (-want +got):\n%s", diff)
	}
	if strings.Count(body, "\n") != 1 {
		t.Errorf("it has %d lines", strings.Count(body, "\n"))
	}
	again := func() int {
		r := httptest.NewRequest("GET", path, nil)
		r.Header.Set("If-None-Match", header.Get("ETag"))
		w := httptest.NewRecorder()
		Handler(b).ServeHTTP(w, r)
		return w.Code
	}
	if code := again(); code != http.StatusNotModified {
		t.Errorf("the same once more: %d", code)
	}
	b.status.NoRule++
	if code := again(); code != http.StatusOK {
		t.Errorf("another one: %d", code)
	}
}

func TestAStatusThatIsNarrowedWronglyIsRefused(t *testing.T) {
	for query, want := range map[string]string{
		"limit=0":      `limit="0" is not a number from 1`,
		"limit=all":    `limit="all" is not`,
		"sort=size":    `sort="size" is not table, trouble, name, drops, waiting, last`,
		"state=broken": `state="broken" is not losing, pending, degraded, up, idle`,
		"limmit=1":     `there is no parameter "limmit"`,
	} {
		if code, _, body := get(t, newFake(busy), "/status?"+query); code != http.StatusBadRequest || !strings.Contains(body, want) {
			t.Errorf("%s: %d %q", query, code, body)
		}
	}
}

// Each part of the status that the page uses has to be in what /status sends.
func TestThePageAsksForWhatThereIs(t *testing.T) {
	_, _, body := get(t, bridgeOf(t, 1, 1), "/status?limit=200")
	for _, name := range []string{"summary", "rules", "receive", "filter", "group", "groups", "interface", "topic", "state", "reason", "since", "self_test",
		"messages_received", "datagrams_sent", "datagrams_received", "messages_published", "sockets", "joined", "place", "broker", "connected", "client_id",
		"connects", "outstanding", "queue", "messages", "bytes", "size", "no_rule", "version", "started", "ready", "waiting", "matched", "losing", "idle"} {
		if !strings.Contains(body, `"`+name+`":`) {
			t.Errorf("/status has no %s:\n%s", name, body)
		}
		if !regexp.MustCompile(`[."]` + name + `\b`).MatchString(pageText) {
			t.Errorf("the page does not use %s", name)
		}
	}
	for _, name := range append(bridge.Views(), bridge.Sorts()...) {
		if !strings.Contains(pageText, `"`+name+`"`) {
			t.Errorf("the page does not offer %s", name)
		}
	}
}

// What is written piece by piece is what the library would write at once.
func TestAStatusIsWrittenAsOneDocument(t *testing.T) {
	for name, s := range map[string]bridge.Status{
		"both":    busy,
		"send":    {Rules: busy.Rules},
		"receive": {Rules: []send.Status{}, Receive: busy.Receive},
		"neither": {Rules: []send.Status{}},
	} {
		var want, got bytes.Buffer
		sends, receives := s.Rules, s.Receive
		e := json.NewEncoder(&want)
		e.SetIndent("", "  ")
		e.SetEscapeHTML(false)
		if err := e.Encode(s); err != nil {
			t.Fatal(err)
		}
		s.Rules, s.Receive = nil, nil
		writeStatus(&got, &s, slices.Values(sends), slices.Values(receives))
		if diff := cmp.Diff(want.String(), got.String()); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
}

// The page is looked at with a browser, where one is named: TOPICAST_TEST_BROWSER=chromium.
func TestThePageInABrowser(t *testing.T) {
	browser := os.Getenv("TOPICAST_TEST_BROWSER")
	if browser == "" {
		t.Skip("TOPICAST_TEST_BROWSER names no browser")
	}
	b := busy
	b.Summary = bridge.Summary{Rules: 4000, Matched: 4000, Losing: 1, Pending: 1, Up: 3998}
	b.HostUnclaimed = &bridge.HostUnclaimedStatus{Multicast: 4321}
	b.Rules = slices.Clone(busy.Rules)
	b.Rules[0].Direction, b.Rules[1].Direction = "send", "send"
	b.Rules[0].LastReceived, b.Rules[0].LastDrop = time.Now(), time.Now()
	b.Rules[0].Drops, b.Rules[0].FirstDrops = map[string]uint64{"bad_group": 1234567}, map[string]string{"bad_group": "topic <img src=x onerror=alert(1)>: no"}
	server := httptest.NewServer(Handler(newFake(b)))
	defer server.Close()
	dump := func(path string) string {
		t.Helper()
		c := exec.Command(browser, "--headless", "--no-sandbox", "--disable-gpu", "--user-data-dir="+t.TempDir(), "--virtual-time-budget=5000", "--dump-dom", server.URL+path)
		out, err := c.Output()
		if err != nil {
			t.Fatal(err)
		}
		return string(out)
	}
	page := dump("/")
	for _, want := range []string{
		">not ready<", "interface iso0 is down", ">losing<", `<tr class="losing">`, `<tr class="pending">`,
		"&lt;script&gt;alert(1)&lt;/script&gt;", "&lt;img src=x", "1,234,567 bad_group", "gateway-7", "5.0 MiB of 64.0 MiB", "4d4h",
		"239.2.1.2:5000, 239.2.1.3-239.2.1.9:5000 on iso1 from 192.0.2.0/24 → ", "4,321 multicast", "self-test: rewritten", "34 source", "showing 4 of 4,000 rules",
	} {
		if !strings.Contains(page, want) {
			t.Errorf("the page does not say %q", want)
		}
	}
	body := page[strings.Index(page, "<tbody>"):]
	if strings.Contains(body, "<img") || strings.Count(page, "<script") != 1 {
		t.Error("a topic has become markup")
	}
	if strings.Index(body, "losing") > strings.Index(body, "pending") {
		t.Error("the rule that loses is not the first")
	}
	if t.Failed() {
		t.Log(body)
	}
}
