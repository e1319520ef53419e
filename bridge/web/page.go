package web

import (
	"context"
	"crypto/sha256"
	_ "embed"
	"encoding/base64"
	"io"
	"net/http"
	"strings"
	"sync"
)

// The page is one file, without anything from elsewhere, and always the same: what it
// shows it asks of /status.
//
//go:embed page.html
var pageText string

var (
	// It is compressed once, when it is first asked for.
	pageAnswer = sync.OnceValue(func() *answer {
		a, _ := newAnswers().get(context.Background(), "", func(w io.Writer) error { // no context, no error
			_, err := io.WriteString(w, pageText)
			return err
		})
		return a
	})

	// The page names its one script and its one style sheet by their hashes, so that a
	// topic or an error text can never become another (https://www.w3.org/TR/CSP3/).
	pagePolicy = strings.Join([]string{
		"default-src 'none'",
		"script-src '" + hashOf("script") + "'",
		"style-src '" + hashOf("style") + "'",
		"connect-src 'self'",
		"base-uri 'none'",
		"form-action 'none'",
		"frame-ancestors 'none'",
	}, "; ")
)

// hashOf is that of the text of the page's element.
func hashOf(element string) string {
	_, text, _ := strings.Cut(pageText, "<"+element+">")
	text, _, _ = strings.Cut(text, "</"+element+">")
	sum := sha256.Sum256([]byte(text))
	return "sha256-" + base64.StdEncoding.EncodeToString(sum[:])
}

func page(w http.ResponseWriter, r *http.Request) {
	a, h := pageAnswer(), w.Header()
	h.Set("Content-Type", "text/html; charset=utf-8")
	h.Set("Content-Security-Policy", pagePolicy)
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("Cache-Control", "no-cache") // kept, and asked for each time whether it is another
	h.Set("ETag", a.tag)
	if unchanged(r, a.tag) {
		w.WriteHeader(http.StatusNotModified)
		return
	}
	a.send(w, r)
}
