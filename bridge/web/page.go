package web

import (
	"bytes"
	"crypto/sha256"
	_ "embed"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"html"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"topicast/bridge"
)

// The page is one answer, without anything from elsewhere: its style and its script are in it. What a
// browser without scripts shows is there too.
var (
	//go:embed page.html
	pageHTML string
	//go:embed page.css
	pageStyle string
	//go:embed page.js
	pageCore string
	//go:embed graph.js
	pageGraphs string
	//go:embed rows.js
	pageRows string
	//go:embed feed.js
	pageFeed string
)

var (
	pageScript = pageCore + pageGraphs + pageRows + pageFeed

	// The parts of the page, between which its title and what is shown without scripts go.
	pageHead, pageMiddle, pageEnd = partsOf(strings.NewReplacer("{{style}}", pageStyle, "{{script}}", pageScript).Replace(pageHTML))

	// The page names its one script and its one style sheet by their hashes, so that a
	// topic or an error text can never become another (https://www.w3.org/TR/CSP3/); nor can the
	// script make markup of a text (https://www.w3.org/TR/trusted-types/).
	pagePolicy = strings.Join([]string{
		"default-src 'none'",
		"script-src '" + hashOf(pageScript) + "'",
		"style-src '" + hashOf(pageStyle) + "'",
		"img-src data:", // its icon
		"connect-src 'self'",
		"base-uri 'none'",
		"form-action 'self'", // of the page without scripts
		"frame-ancestors 'none'",
		"require-trusted-types-for 'script'",
		"trusted-types 'none'",
	}, "; ")
)

func partsOf(text string) (head, middle, end string) {
	head, rest, _ := strings.Cut(text, "{{title}}")
	middle, end, _ = strings.Cut(rest, "{{plain}}")
	return head, middle, end
}

func hashOf(text string) string {
	sum := sha256.Sum256([]byte(text))
	return "sha256-" + base64.StdEncoding.EncodeToString(sum[:])
}

// page answers with the page; what it says of the rules is for browsers without scripts.
func (h *handler) page(w http.ResponseWriter, r *http.Request) {
	q := plainQuery(r.URL.Query())
	a, err := h.answers.get(r.Context(), fmt.Sprintf("page %#v", q), func(out io.Writer) error {
		s, sends, receives := h.bridge.Snapshot(q)
		io.WriteString(out, pageHead+html.EscapeString(visible(titleOf(&s)))+pageMiddle)
		writePlain(out, q, &s, sends, receives)
		_, err := io.WriteString(out, pageEnd)
		return err
	})
	if err != nil {
		http.Error(w, err.Error(), http.StatusServiceUnavailable)
		return
	}
	header := w.Header()
	header.Set("Content-Type", "text/html; charset=utf-8")
	header.Set("Content-Security-Policy", pagePolicy)
	header.Set("X-Content-Type-Options", "nosniff")
	header.Set("Referrer-Policy", "no-referrer")
	header.Set("Cross-Origin-Opener-Policy", "same-origin")
	header.Set("Cross-Origin-Resource-Policy", "same-origin")
	header.Set("Cache-Control", "no-store")
	a.send(w, r)
}

// plainQuery is what the page is asked for; it shows all where it does not understand that.
func plainQuery(v url.Values) bridge.Query {
	q := bridge.Query{Match: v.Get("match"), State: v.Get("state"), Sort: v.Get("sort"), Limit: rows}
	if !slices.Contains(bridge.Views(), q.State) {
		q.State = ""
	}
	if !slices.Contains(bridge.Sorts(), q.Sort) {
		q.Sort = "trouble"
	}
	return q
}

// titleOf tells one bridge from others among the tabs of a browser.
func titleOf(s *bridge.Status) string {
	name := s.Host
	if id := s.Broker.ClientID; id != "" {
		if name != "" {
			name += " / "
		}
		name += id
	}
	if s.Summary.Losing > 0 {
		name = fmt.Sprintf("%d losing – %s", s.Summary.Losing, name)
	}
	return name + " – topicast"
}

// rule answers with what is in force of a rule.
func (h *handler) rule(w http.ResponseWriter, r *http.Request) {
	name := r.URL.Query().Get("name")
	keys, ok := h.bridge.Effective(name)
	if !ok {
		http.Error(w, fmt.Sprintf("there is no rule %q", name), http.StatusNotFound)
		return
	}
	var text bytes.Buffer
	if err := json.NewEncoder(&text).Encode(map[string]any{"name": name, "keys": keys}); err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	w.Header().Set("Cache-Control", "no-store")
	w.Write(text.Bytes())
}
