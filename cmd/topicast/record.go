package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"topicast/bridge/control"
	"topicast/bridge/tap"
	"topicast/configs"
	"topicast/internal/capture"
)

func newRecordCommand() *cobra.Command {
	o := recordOptions{most: sizeFlag(100e6)}
	c := &cobra.Command{
		Use:   "record FILE.pcapng [TOPIC|GROUP:PORT]",
		Short: "Write the datagrams that pass to a capture file",
		Long: `Follow the running topicast, and write the datagrams that it sends and receives to a
capture file (pcapng), which Wireshark and tcpdump read and topicast replay sends
again. Each has what was decided about it as its comment, with the rule and the
topic; Wireshark finds by it: frame.comment contains "rule lamps,". FILE - is the
standard output: topicast record - | wireshark -k -i -

What was received is in the file whatever became of it. Messages that did not leave
were no datagrams: they are counted, by reason, and with --unsent in the file as what
they would have been, at the time of the decision.

It is what topicast handed to the kernel or had of it, not what a network card saw:
hardware addresses, fragments and, of what was received, the TTL are not known.

The stream pays nothing for it while nobody records, and waits for nobody who does:
what was missed is told, and in the file too. Each datagram is in the file half a
second after it passed, so that a file is whole whenever this ends.

` + controlUsage + `

Exit status: 0 when --for has passed, --max-size is reached or Ctrl-C was pressed; 1
when the file could not be written or the running topicast has ended (the file has
what was before); 64 wrong usage.`,
		Example: `  topicast record lamps.pcapng --rule lamps
  topicast record meters.pcapng 239.10.4.1:30000 --for 60s --force
  topicast record floor3.pcapng 'site/3/lamp/#' --max-size 10MB`,
		ValidArgsFunction: func(_ *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
			if len(args) > 0 {
				return nil, cobra.ShellCompDirectiveNoFileComp
			}
			return []string{"pcapng"}, cobra.ShellCompDirectiveFilterFileExt
		},
		RunE: func(c *cobra.Command, args []string) error {
			return runRecord(c.Context(), o, args, c.OutOrStdout(), c.ErrOrStderr())
		},
	}
	f := c.Flags()
	f.SortFlags = false
	f.StringVar(&o.rule, "rule", "", "only of the rule of this `name`")
	f.BoolVar(&o.unsent, "unsent", false, "also messages that did not leave, as the datagrams that they would have been")
	f.DurationVar(&o.length, "for", 0, "stop after this time; 0s: never")
	f.Var(&o.most, "max-size", "stop when the file has this `size`; 0: never")
	f.BoolVar(&o.force, "force", false, "replace the file if there is one")
	o.addFlags(f)
	return c
}

type recordOptions struct {
	controlOptions
	rule   string
	unsent bool
	length time.Duration
	most   sizeFlag
	force  bool
}

// sizeFlag is a size with its unit.
type sizeFlag configs.Size

func (s *sizeFlag) String() string { return configs.Size(*s).String() }
func (s *sizeFlag) Type() string   { return "size" }
func (s *sizeFlag) Set(text string) error {
	n, err := configs.ParseSize(text)
	*s = sizeFlag(n)
	return err
}

// minRecording is what a file has to have room for: its head, the end, and a datagram of any length.
const minRecording = 100_000

// watch is what is asked of the running bridge.
func (o *recordOptions) watch(args []string) (w control.Watch, err error) {
	if o.most != 0 && o.most < minRecording {
		return w, usageError(fmt.Errorf("--max-size %s: want %s or more, or 0", &o.most, configs.Size(minRecording)))
	}
	of := tapOptions{rule: o.rule, length: o.length, payload: 1 << 16}
	w, err = of.watch(args)
	w.Heard = true
	return w, err
}

func runRecord(ctx context.Context, o recordOptions, args []string, out, errOut io.Writer) error {
	w, err := o.watch(args[1:])
	if err != nil {
		return err
	}
	c, err := o.dial(ctx)
	if err != nil {
		return err
	}
	r := newRecording(nil, &o, w.Topic != "")
	err = r.follow(ctx, c, w, errOut, func() (err error) { // not before: a bridge that refuses leaves what is there
		if r.to, err = o.create(args[0], out); err != nil {
			return err
		}
		return r.begin(c.Path, args[1:])
	})
	to := r.to
	if to == nil {
		return err
	}
	if closed := to.close(r.size()); closed != nil {
		return cmp.Or(err, closed) // nothing can be said of what is in it
	}
	result := out
	if to.file == nil {
		result = errOut
	}
	r.sumUp(to.name, result, errOut)
	return err
}

// recordFile is where a recording goes.
type recordFile struct {
	io.Writer
	file *os.File // nil: the standard output
	name string
}

func (o *recordOptions) create(name string, out io.Writer) (*recordFile, error) {
	if name == "-" {
		return &recordFile{out, nil, "the standard output"}, nil
	}
	how := os.O_WRONLY | os.O_CREATE | os.O_EXCL
	if o.force {
		how = os.O_WRONLY | os.O_CREATE | os.O_TRUNC
	}
	f, err := os.OpenFile(name, how, 0o600) // payloads are nobody else's business
	if errors.Is(err, fs.ErrExist) {
		return nil, withHint(fmt.Errorf("%s is there already", name), "--force replaces it")
	}
	if err != nil {
		return nil, err
	}
	return &recordFile{f, f, name}, nil
}

// close leaves the blocks that are whole: of the last one a full disk may have taken a part. It is
// an error if another program has removed or cut the file meanwhile.
func (f *recordFile) close(size int64) (err error) {
	if f.file == nil {
		return nil
	}
	if is, failed := f.file.Stat(); failed == nil && is.Mode().IsRegular() {
		there, _ := os.Stat(f.name)
		switch {
		case is.Size() > size:
			_ = f.file.Truncate(size)
		case is.Size() < size:
			err = fmt.Errorf("%s was cut by another program while it was written: it has %d bytes, want %d", f.name, is.Size(), size)
		}
		if there == nil || !os.SameFile(is, there) {
			err = fmt.Errorf("%s was removed or replaced by another program while it was written: what was recorded is gone", f.name)
		}
	}
	if closed := f.file.Close(); err == nil {
		err = closed
	}
	return err
}

// recording is a capture that is being written.
type recording struct {
	to  *recordFile
	all bool // what was heard is to be in the file; else once it is known that it was asked for

	unsent bool
	most   int64
	length time.Duration
	began  time.Time

	mu     sync.Mutex // guards the rest
	window recordWindow
	out    *capture.Writer
	err    error // of the file
	gap    uint64
	counts recordCounts
}

// recordCounts are what was recorded and what not.
type recordCounts struct {
	sent, received, answers int
	unsent                  int
	missed                  uint64
	refused                 int               // no packet could be made of them
	left                    map[string]uint64 // messages that did not leave and datagrams of which no more is known, by decision and reason
}

func newRecording(to *recordFile, o *recordOptions, byTopic bool) *recording {
	return &recording{to: to, all: !byTopic, unsent: o.unsent, most: int64(o.most), length: o.length, counts: recordCounts{left: make(map[string]uint64)}}
}

// begin writes the head of the file.
func (r *recording) begin(socket string, args []string) (err error) {
	what := "all"
	if len(args) > 0 {
		what = args[0]
	}
	r.began = time.Now()
	r.out, err = capture.NewWriter(r.to, "topicast "+buildVersion(), fmt.Sprintf(
		"datagrams that the topicast at %s sent and received (%s), made anew from what it told: hardware addresses, fragments and the TTL of what was received are not known",
		printable(socket), printable(what)), r.most)
	return r.named(err)
}

// named names the file in an error of it.
func (r *recording) named(err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s: %w", r.to.name, err)
}

func (r *recording) size() int64 {
	if r.out == nil {
		return 0
	}
	return r.out.Size()
}

// follow records until ctx ends, the file has its size or cannot be written, or the bridge ends. It opens the
// file once the bridge has agreed.
func (r *recording) follow(ctx context.Context, c *control.Client, w control.Watch, errOut io.Writer, open func() error) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var written chan struct{} // closed when writeWaiting has returned; nil: it has not begun
	var unopened error
	w.Began = func() {
		if unopened = open(); unopened != nil {
			cancel()
			return
		}
		r.began = time.Now()
		fmt.Fprintf(errOut, "recording what passes the topicast at %s; Ctrl-C ends it\n", c.Path)
		written = make(chan struct{})
		go func() {
			defer close(written)
			r.writeWaiting(ctx, cancel)
		}()
		if r.length > 0 {
			time.AfterFunc(r.length, cancel)
		}
	}
	err := c.Watch(ctx, w, func(e *tap.Event, missed uint64) bool { return unopened == nil && r.take(e, missed) == nil })
	cancel()
	switch {
	case unopened != nil:
		return unopened
	case written == nil:
		return withRules(err)
	}
	<-written
	return r.end(err)
}

// writeWaiting writes to the file what has waited for recordWait, whether more comes or not, until ctx
// ends. When the file cannot be written it calls failed.
func (r *recording) writeWaiting(ctx context.Context, failed func()) {
	t := time.NewTicker(recordWait / 4)
	defer t.Stop()
	for {
		select {
		case <-t.C:
		case <-ctx.Done():
			return
		}
		r.mu.Lock()
		err := r.write(time.Now().Add(-recordWait))
		r.mu.Unlock()
		if err != nil {
			failed()
			return
		}
	}
}

// end writes what is left, and judges how it has ended.
func (r *recording) end(err error) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	full := r.write(time.Time{})
	if full == nil || errors.Is(full, capture.ErrFull) {
		full = r.named(r.out.End(strings.Join(append([]string{"at the end: " + r.counts.recorded()}, r.counts.notes()...), "; ")))
	}
	switch {
	case full != nil:
		return full
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return nil
	}
	return err
}

// sumUp tells what is in the file, and what is not.
func (r *recording) sumUp(name string, out, errOut io.Writer) {
	if r.out == nil {
		return
	}
	full := ""
	if errors.Is(r.err, capture.ErrFull) {
		full = ", where --max-size ended it"
	}
	fmt.Fprintf(out, "%s in %.3f s, %d bytes in %s%s\n", r.counts.recorded(), time.Since(r.began).Seconds(), r.size(), printable(name), full)
	for _, note := range r.counts.notes() {
		printNote(errOut, note)
	}
}
