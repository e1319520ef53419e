package control

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"topicast/bridge/account"
	"topicast/bridge/tap"
)

// Client asks a running bridge.
type Client struct {
	Path string // of the socket
	http http.Client
}

// answerWithin is how long an answer may take to begin.
const answerWithin = 10 * time.Second

// Dial finds a bridge that listens at one of the paths, the first that does. The error is that of
// the first path where there is a socket, else that of the first.
func Dial(ctx context.Context, paths ...string) (*Client, error) {
	var first error
	for _, path := range paths {
		c, err := new(net.Dialer).DialContext(ctx, "unix", path)
		if err == nil {
			c.Close()
			return newClient(path), nil
		}
		if first == nil || errors.Is(first, fs.ErrNotExist) && !errors.Is(err, fs.ErrNotExist) {
			first = err
		}
	}
	return nil, first
}

func newClient(path string) *Client {
	dial := func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", path)
	}
	return &Client{Path: path, http: http.Client{Transport: &http.Transport{DialContext: dial, DisableKeepAlives: true, DisableCompression: true, ResponseHeaderTimeout: answerWithin}}}
}

// do asks, and returns what is answered, which the caller closes.
func (c *Client) do(ctx context.Context, method, path string, query url.Values) (*http.Response, error) {
	r, err := http.NewRequestWithContext(ctx, method, "http://control"+path+"?"+query.Encode(), nil)
	if err != nil {
		return nil, err
	}
	answer, err := c.http.Do(r)
	if err != nil {
		if of := new(url.Error); errors.As(err, &of) {
			err = of.Err // its URL says nothing to anybody
		}
		return nil, err
	}
	if answer.StatusCode >= 400 {
		defer answer.Body.Close()
		text, _ := io.ReadAll(io.LimitReader(answer.Body, 4096))
		if answer.StatusCode == http.StatusNotFound && strings.HasPrefix(string(text), "404 page") {
			return nil, errors.New("the running topicast is older, and does not know this")
		}
		return nil, errors.New(strings.TrimSpace(string(text)))
	}
	return answer, nil
}

// Status writes the status as JSON, narrowed as that of the web pages is.
func (c *Client) Status(ctx context.Context, query url.Values, w io.Writer) error {
	answer, err := c.do(ctx, http.MethodGet, "/status", query)
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	_, err = io.Copy(w, answer.Body)
	return err
}

// Rejoin has the receive rules of a name join their groups anew, and returns them.
func (c *Client) Rejoin(ctx context.Context, rule string) (rules []string, err error) {
	return c.direct(ctx, "/rejoin", rule)
}

// Disable switches the rules of a name off, and returns them.
func (c *Client) Disable(ctx context.Context, rule string) (rules []string, err error) {
	return c.direct(ctx, "/disable", rule)
}

// Enable switches the rules of a name on again, and returns them.
func (c *Client) Enable(ctx context.Context, rule string) (rules []string, err error) {
	return c.direct(ctx, "/enable", rule)
}

// Flush discards what waits for the rules of a name, or with all for all, and returns what that was.
func (c *Client) Flush(ctx context.Context, rule string, all bool) (flushed []account.Flushed, err error) {
	query := url.Values{"rule": {rule}}
	if all {
		query = url.Values{"all": {"true"}}
	}
	err = c.post(ctx, "/flush", query, &flushed)
	return flushed, err
}

// direct has something done with a rule.
func (c *Client) direct(ctx context.Context, path, rule string) (rules []string, err error) {
	err = c.post(ctx, path, url.Values{"rule": {rule}}, &rules)
	return rules, err
}

// post has something done, and reads the answer.
func (c *Client) post(ctx context.Context, path string, query url.Values, into any) error {
	answer, err := c.do(ctx, http.MethodPost, path, query)
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	if err := json.NewDecoder(answer.Body).Decode(into); err != nil {
		return fmt.Errorf("read the answer: %w", err)
	}
	return nil
}

// Watch asks what becomes of messages. Of each event, or number of those that were missed, it
// calls told, until that reports false or ctx ends, with its error.
func (c *Client) Watch(ctx context.Context, f Watch, told func(e *tap.Event, missed uint64) bool) error {
	answer, err := c.do(ctx, http.MethodGet, "/tap", f.values())
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	if f.Began != nil {
		f.Began()
	}
	lines := bufio.NewReaderSize(answer.Body, 64<<10)
	for {
		text, err := lines.ReadBytes('\n')
		if err != nil {
			if ctx.Err() != nil {
				return ctx.Err()
			}
			return ErrEnded
		}
		var line struct {
			tap.Event
			Missed
		}
		if err := json.Unmarshal(text, &line); err != nil {
			return fmt.Errorf("read an event: %w", err)
		}
		if !told(&line.Event, line.Missed.Missed) {
			return nil
		}
	}
}

// ErrEnded is that the bridge has ended, or its socket.
var ErrEnded = errors.New("the running topicast has ended, or its socket was changed")

// Watch is what is asked of events.
type Watch struct {
	Topic   string // filter; "": any
	To      string // address, with or without a port; "": any
	Rule    string // "": any
	Lost    bool   // only what goes no further
	Payload int    // bytes of each
	Heard   bool   // also that a datagram has come (tap.Filter)
	Began   func() // is called when it is watched; or nil
}

func (f *Watch) values() url.Values {
	v := url.Values{}
	for name, value := range map[string]string{"topic": f.Topic, "to": f.To, "rule": f.Rule} {
		if value != "" {
			v.Set(name, value)
		}
	}
	if f.Lost {
		v.Set("lost", "true")
	}
	if f.Heard {
		v.Set("heard", "true")
	}
	if f.Payload > 0 {
		v.Set("payload", strconv.Itoa(f.Payload))
	}
	return v
}
