package main

import (
	"context"
	"errors"
	"log/slog"
	"sync"

	"topicast/bridge/control"
	"topicast/configs"
)

// controlSocket is the control socket of a running bridge, which a reload may put elsewhere.
type controlSocket struct {
	options control.Options // but for the path

	mu       sync.Mutex
	path     string          // where it is to be; "": nowhere
	server   *control.Server // nil: there is none
	ended    chan struct{}   // closed when server has ended
	toldNone bool            // that auto is nowhere
}

// open opens the socket that the configuration asks for, in place of the one that there is. It
// is an error where another program listens at the path that is written there: perhaps the same bridge,
// started twice. Messages come first where it cannot be opened for another reason: that is logged.
func (c *controlSocket) open(to configs.Control) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	path := to.Path()
	if path == "" && to.Auto() && !c.toldNone {
		c.toldNone = true
		c.log().Info("no control socket: topicast status, tap and others do not reach this bridge, as control.listen is auto and neither RUNTIME_DIRECTORY nor XDG_RUNTIME_DIR is set",
			"hint", "control.listen, or --control-listen, unix:/run/topicast/control.sock is where these commands look")
	}
	if path == c.path && (c.server != nil || path == "") {
		return nil
	}
	if path == "" {
		c.path = ""
		c.end()
		return nil
	}
	o := c.options
	o.Path = path
	next, err := control.Listen(o)
	if err != nil {
		if errors.Is(err, control.ErrInUse) && !to.Auto() {
			return withHint(err, `choose another path for control.listen, or "" for none`)
		}
		c.log().Warn("no control socket: topicast status, tap and others do not reach this bridge, which runs all the same", "err", err, "hint", "control.listen says where it is to be")
		return nil
	}
	c.end()
	c.path, c.server, c.ended = path, next, make(chan struct{})
	c.log().Info("control socket", "path", path)
	go func(ended chan struct{}) {
		defer close(ended)
		if err := next.Serve(context.Background()); err != nil {
			c.log().Error("the control socket has ended", "path", path, "err", err)
		}
	}(c.ended)
	return nil
}

// close closes the socket.
func (c *controlSocket) close() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.end()
}

// end closes the socket that there is. Callers hold mu.
func (c *controlSocket) end() {
	if c.server != nil {
		c.server.Close()
		<-c.ended
		c.server = nil
	}
}

func (c *controlSocket) log() *slog.Logger { return c.options.Logger }
