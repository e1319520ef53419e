package web

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"regexp"
	"slices"
	"strings"
	"testing"

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
	if strings.Contains(body, "{{") {
		t.Error("a part of the page is missing")
	}
	// Nothing from elsewhere, no markup made of text, and nothing that the policy forbids.
	namespace := strings.NewReplacer(`"http://www.w3.org/2000/svg"`, "", "'http://www.w3.org/2000/svg'", "")
	if found := regexp.MustCompile(`(?i)https?://|\bsrc=|innerHTML|outerHTML|insertAdjacent|document\.write|\beval\(|\son[a-z]+=|\sstyle=`).FindAllString(namespace.Replace(body), -1); found != nil {
		t.Errorf("the page has %q", found)
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
		pages(b).ServeHTTP(w, r)
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
		"state=broken": `state="broken" is not losing, pending, degraded, disabled, up, idle`,
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
		if !regexp.MustCompile(`[."]` + name + `\b`).MatchString(pageScript) {
			t.Errorf("the page does not use %s", name)
		}
	}
	for _, name := range append(bridge.Views(), bridge.Sorts()...) {
		if !strings.Contains(pageScript+pageHTML, `"`+name+`"`) {
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
