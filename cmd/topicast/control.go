package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"topicast/bridge"
	"topicast/bridge/control"
	"topicast/configs"
)

// How the commands that ask a running bridge find its socket, in this order: --control,
// TOPICAST_CONTROL_LISTEN, the configuration, the places of control.listen: auto.

// controlOptions say which running bridge is meant.
type controlOptions struct {
	socket string // --control; "": it is looked for
	file   string // --config
}

// controlUsage is of the help of those commands.
const controlUsage = `The running topicast is found by its socket: --control, else control.listen of the
configuration, else $XDG_RUNTIME_DIR/topicast/control.sock and
/run/topicast/control.sock. The user that it runs as, its group and root may use it.`

func (o *controlOptions) addFlags(f *pflag.FlagSet) {
	f.StringVar(&o.socket, "control", "", "the control socket of the running topicast, a `file`; empty: it is looked for")
	f.StringVarP(&o.file, "config", "c", "", "the configuration `file` of the running topicast, which says where the socket is")
}

// places are where the socket may be.
// fault is why it is not known what the configuration says of it.
func (o *controlOptions) places() (places []string, fault, err error) {
	if o.socket != "" {
		path, err := filepath.Abs(strings.TrimPrefix(o.socket, "unix:"))
		if err != nil {
			return nil, nil, err
		}
		return []string{path}, nil, nil
	}
	places, fault, err = configs.ControlPlaces(o.file)
	if errors.Is(err, configs.ErrNoControl) {
		return nil, nil, withHint(fmt.Errorf("the running topicast has no control socket: %w", err), "write control.listen: auto, or unix: and a path")
	}
	return places, fault, err
}

// dial finds the running bridge.
func (o *controlOptions) dial(ctx context.Context) (*control.Client, error) {
	places, fault, err := o.places()
	if err != nil {
		return nil, err
	}
	c, err := control.Dial(ctx, places...)
	switch {
	case err == nil:
		return c, nil
	case errors.Is(err, fs.ErrPermission):
		return nil, withHint(fmt.Errorf("the control socket: %w", err), "ask as the user that topicast runs as, as one of its group, or as root")
	case errors.Is(err, fs.ErrNotExist) && fault != nil:
		firstLine, _, _ := strings.Cut(fault.Error(), "\n")
		return nil, withHint(fmt.Errorf("no topicast listens at %s, and what control.listen is cannot be read, since the configuration has a fault: %s", strings.Join(places, " or "), firstLine),
			"topicast check says what to mend; --control names the socket meanwhile")
	case errors.Is(err, fs.ErrNotExist):
		return nil, withHint(fmt.Errorf("no topicast listens at %s: there is no such socket", strings.Join(places, " or ")),
			"is it running? its log says where its control socket is (control.listen), and --control names it")
	case errors.Is(err, syscall.ECONNREFUSED):
		return nil, withHint(fmt.Errorf("the control socket: %w", err), "the topicast that made it is no more; start it again, and it makes a new one")
	}
	return nil, fmt.Errorf("the control socket: %w", err)
}

// statusOf asks for the status, narrowed as the page does.
func statusOf(ctx context.Context, c *control.Client, query url.Values) (s bridge.Status, err error) {
	var text bytes.Buffer
	if err := c.Status(ctx, query, &text); err != nil {
		return s, err
	}
	if err := json.Unmarshal(text.Bytes(), &s); err != nil {
		return s, fmt.Errorf("read the status: %w", err)
	}
	return s, nil
}

// withRules adds to what the running bridge has refused where its rules are listed, if it does not know the one
// that was asked for.
func withRules(err error) error {
	if text := err.Error(); strings.HasPrefix(text, "there is no rule ") || strings.HasPrefix(text, "there is no receive rule ") {
		return withHint(err, "topicast status --limit 0 lists the rules")
	}
	return err
}

// completeRule offers the rules of the running bridge.
func completeRule(c *cobra.Command, _ []string, _ string) ([]string, cobra.ShellCompDirective) {
	return completeRules(c, true)
}

// completeReceiveRule offers those that receive.
func completeReceiveRule(c *cobra.Command, _ []string, _ string) ([]string, cobra.ShellCompDirective) {
	return completeRules(c, false)
}

func completeRules(c *cobra.Command, sends bool) ([]string, cobra.ShellCompDirective) {
	var o controlOptions
	for name, to := range map[string]*string{"control": &o.socket, "config": &o.file} {
		if f := c.Flag(name); f != nil {
			*to = f.Value.String()
		}
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	client, err := o.dial(ctx)
	if err != nil {
		return nil, cobra.ShellCompDirectiveError
	}
	s, err := statusOf(ctx, client, url.Values{"limit": {"1000"}, "sort": {"name"}})
	if err != nil {
		return nil, cobra.ShellCompDirectiveError
	}
	var names []string
	for _, r := range s.Rules {
		if !sends {
			break
		}
		names = append(names, cobra.CompletionWithDesc(r.Name, "send "+r.Filter))
	}
	for _, r := range s.Receive {
		names = append(names, cobra.CompletionWithDesc(r.Name, "receive "+r.Topic))
	}
	return names, cobra.ShellCompDirectiveNoFileComp
}
