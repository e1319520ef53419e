package doctor

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"os"
	"slices"
	"sync"
	"time"

	"topicast/bridge/multicast"
)

// MostLive is how many subjects are listened for: the rest is held against what the host and the
// bridge say.
const MostLive = 32

// overhearRest is how long is still overheard after the bridge has said for the last time what it sent.
const overhearRest = 100 * time.Millisecond

// mostSenders bounds the senders that are told apart.
const mostSenders = 64

// probe makes the self-test of each source once.
func probe(ctx context.Context, subjects []*Subject) {
	made := make(map[multicast.Source]*multicast.Probe)
	for _, s := range subjects {
		if !s.Send || s.Err != nil {
			continue
		}
		from := s.Source
		from.Binding.SourcePort = 0 // which the bridge has
		p, known := made[from]
		if !known && len(made) < MostLive {
			if sender, err := multicast.Open(from); err == nil {
				r := sender.Probe(ctx)
				sender.Close()
				p = &r
			}
			made[from] = p
		}
		s.Live.Probe = p
	}
}

// mostFound is how many groups of a rule are listened for beside the first ones, because something
// comes for them.
const mostFound = 4

// looks is how often while it listens it looks for such.
const looks = 8

// found are the groups of receive rules that something comes for on an interface, and that nobody
// listens for yet: of a rule with many only the first are.
func found(subjects []*Subject, on int, came map[Flow]int) (more []*Subject) {
	tos := make([]netip.AddrPort, 0, len(came))
	for f := range came {
		tos = append(tos, f.To)
	}
	slices.SortFunc(tos, netip.AddrPort.Compare)
	for _, to := range slices.Compact(tos) {
		looked := make(map[string]bool) // rules
		for _, s := range slices.Concat(subjects, more) {
			looked[s.Of] = looked[s.Of] || s.To == to && !s.Send
		}
		for _, s := range subjects {
			if s.On.Index != on || s.Send || !s.Live.Looked || s.Found || !s.group() || looked[s.Of] || !s.hears(to) {
				continue
			}
			looked[s.Of] = true
			n := 0
			for _, o := range slices.Concat(subjects, more) {
				if o.Found && o.Of == s.Of {
					n++
				}
			}
			if n < mostFound {
				one := *s
				one.To, one.Found, one.Live = to, true, Live{Looked: true}
				more = append(more, &one)
			}
		}
	}
	return more
}

// listen joins the groups of receive rules beside whoever has them, overhears the interfaces where
// that is allowed, and waits. It returns the subjects, and those that it found meanwhile. first is called
// when all that is sent is overheard, and last before that ends: what the kernel has counted between the
// two has passed by, if it has passed at all.
func listen(ctx context.Context, subjects []*Subject, window time.Duration, first, last func()) []*Subject {
	l := listening{ears: make(map[int]*ear), refused: make(map[int]string)}
	for i, s := range subjects {
		if s.On.Index == 0 || i >= MostLive {
			continue
		}
		s.Live.Looked = true
		l.overhear(s.On)
		if !s.Send && s.group() {
			l.join(s)
		}
	}
	first()
	for look := range looks {
		pause(ctx, window/looks)
		if ctx.Err() != nil || look == looks-1 {
			break
		}
		subjects = l.addFound(subjects)
	}
	last()
	// A reader may still have something before it, which would not have left it by the end.
	pause(ctx, overhearRest)
	l.end(subjects)
	return subjects
}

// listening is what listen has open.
type listening struct {
	ears    map[int]*ear   // by the index of the interface; nil: it cannot be overheard
	refused map[int]string // and why
	joins   []*joined
}

// overhear begins to overhear an interface, unless that was tried before.
func (l *listening) overhear(on multicast.Interface) {
	if _, tried := l.ears[on.Index]; tried {
		return
	}
	o, err := overhear(on)
	switch {
	case errors.Is(err, os.ErrPermission):
		o, l.refused[on.Index] = nil, "it needs CAP_NET_RAW"
	case err != nil:
		o, l.refused[on.Index] = nil, err.Error()
	}
	l.ears[on.Index] = o
}

// join joins the group of a subject.
func (l *listening) join(s *Subject) {
	j, err := join(s)
	if s.Live.Join = err; err == nil {
		l.joins = append(l.joins, j)
	}
}

// addFound joins the groups that were overheard and that are those of rules with many, and counts what
// of them has passed before. It returns the subjects with those.
func (l *listening) addFound(subjects []*Subject) []*Subject {
	for index, o := range l.ears {
		if o == nil {
			continue
		}
		for _, s := range found(subjects, index, o.came()) {
			subjects = append(slices.Clip(subjects), s)
			l.join(s)
			for f, n := range o.came() {
				if f.To == s.To && s.takes(f.From.Addr()) {
					s.Live.Early += n
				}
			}
		}
	}
	return subjects
}

// end leaves the groups, closes the ears, and gives the subjects what was overheard.
func (l *listening) end(subjects []*Subject) {
	for _, j := range l.joins {
		j.leave()
	}
	wires := make(map[int]*Wire)
	for index, o := range l.ears {
		if o != nil {
			wires[index] = o.close()
		}
	}
	for _, s := range subjects {
		if s.Live.Looked {
			s.Live.Wire, s.Live.NoTap = wires[s.On.Index], l.refused[s.On.Index]
		}
	}
}

// pause waits, unless ctx ends before.
func pause(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}

// joined is a membership of our own.
type joined struct {
	r    *multicast.Receiver
	done sync.WaitGroup
}

// join asks for what anybody sends to the group, so that senders that the rule does not take are
// seen too.
func join(s *Subject) (*joined, error) {
	r, err := multicast.Listen(multicast.ReceiverOptions{Group: s.To, Buffer: 1 << 20}, s.On)
	if err != nil {
		return nil, err
	}
	s.Live.Heard = make(map[netip.Addr]int)
	j := &joined{r: r}
	j.done.Go(func() {
		batch := make([]multicast.Datagram, multicast.MaxReceive)
		for {
			n, err := r.Receive(batch)
			if err != nil {
				return
			}
			for _, d := range batch[:n] {
				s.Live.hear(d.Source.Addr().WithZone(""))
			}
		}
	})
	return j, nil
}

// hear counts a datagram that reached a socket.
func (l *Live) hear(from netip.Addr) {
	if _, known := l.Heard[from]; known || len(l.Heard) < mostSenders {
		l.Heard[from]++
	}
}

func (j *joined) leave() {
	j.r.Close()
	j.done.Wait()
}

// lookAround asks what is asked of the host only about what was seen.
func (s *Subject) lookAround(ctx context.Context) {
	if s.On.Index == 0 {
		return
	}
	if on, err := net.InterfaceByIndex(s.On.Index); err == nil {
		s.Live.Flag = on.Flags&net.FlagMulticast != 0
	} else {
		s.Live.Flag = true // it has gone meanwhile
	}
	if s.Live.Looked {
		s.Live.Bridge, s.Live.NoBridge = multicast.ReadBridge(s.On)
	}
	if s.Send {
		return
	}
	s.Live.Back = make(map[string]string)
	for _, from := range s.senders() {
		s.Live.Back[from.String()] = multicast.WayBack(from)
	}
}

// senders are the remote ones that are known: those of the rule that are single addresses, and those
// that were overheard sending to it.
func (s *Subject) senders() (all []netip.Addr) {
	for _, p := range s.Sources {
		if p.IsSingleIP() {
			all = append(all, p.Addr())
		}
	}
	if s.Live.Wire != nil {
		for f := range s.Live.Wire.Flows {
			if !f.Sent && f.To == s.To && len(all) < mostSenders {
				all = append(all, f.From.Addr())
			}
		}
	}
	return all
}
