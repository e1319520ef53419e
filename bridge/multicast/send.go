package multicast

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"syscall"

	"golang.org/x/net/ipv4"
)

// Words of this file, smallest first:
//
//	datagram  one payload for one group
//	run       neighbours of a batch that leave together: one group, one size (the last may be shorter)
//	entry     what the kernel takes as one message: a datagram or a run
//	chunk     the entries of one system call
//	batch     what Send is given
//
// The way of a batch:
//
//	Send -> send -> 1. fill a chunk -> 2. flush it -> 3. blame: whose is the error?
//	                                                    | a run's: send, without runs
//
// An undeliverable datagram costs itself, never its neighbours.

// Send sends the datagrams of a batch in order and never waits.
//
// It returns how many from the front are disposed of: taken by the kernel, or
// charged to failed, since they can never leave. failed, never nil, is called in
// order and must not call the sender; its error wraps ErrTooLong, ErrBadGroup, or what the
// system said (os.ErrPermission: a firewall forbids it).
//
// If n < len(batch), err says why batch[n] and the rest have to wait: it is
// ErrWouldBlock or wraps ErrNoBuffer (see Wait), some of these ErrNoNeighbour too, or wraps ErrPending when the
// source or the interface is gone, or net.ErrClosed. A datagram that met
// ErrNoBuffer was not taken, though programs on this host may have heard it.
func (s *Sender) Send(batch []Datagram, failed func(i int, err error)) (n int, err error) {
	return s.SendChecked(nil, batch, failed)
}

// SendChecked is Send for one of several senders that send one right after the other, with
// the same check, what is ready at the same time; nil: it sends alone.
func (s *Sender) SendChecked(check *AddressCheck, batch []Datagram, failed func(i int, err error)) (n int, err error) {
	if !s.mu.TryLock() {
		s.mu.Lock()
		if check != nil {
			*check = AddressCheck{} // that took a while
		}
	}
	defer s.mu.Unlock()
	s.check = check
	n, err = s.send(batch, 0, true, failed)
	s.check = nil
	s.pause = errors.Is(err, ErrNoBuffer)
	return n, err
}

// mostTries is how often in a row a datagram is tried again in whose place an ICMP error
// was reported. Under a flood that is denser still it is for the caller to try once more.
const mostTries = 64

// mostDoubts is how often in a row a datagram is tried whose error an ICMP error reads like,
// though the kernel holds none. It holds one before it reports it, and under a flood it may
// have been taken out in between, together with those before it.
const mostDoubts = 3

// send sends batch from at on, in runs or singly, and returns how far it came.
func (s *Sender) send(batch []Datagram, at int, runs bool, failed func(int, error)) (int, error) {
	c := chunks.Get().(*chunk)
	defer c.release()
	tries, doubts := 0, 0
	for at < len(batch) {
		if err := s.refuse(&batch[at]); err != nil {
			failed(at, s.explain(&batch[at], err))
			at++
			continue
		}
		segment := 0
		if runs {
			segment = s.segment
		}
		if !s.carrier.stillHasAddress(s.check, min(len(batch)-at, maxDatagrams)) {
			return at, pending(fmt.Sprintf("send from %s: the address is no longer on the interface", s.source))
		}
		if err := s.allowFragments(s.fill(c, batch[at:], segment)); err != nil {
			return at, err
		}
		if err := s.allowBroadcast(batch[at].Broadcast); err != nil {
			return at, err
		}
		taken, err := s.flush(c.messages[:c.n])
		at += c.datagrams(0, taken)
		if taken > 0 {
			tries, doubts = 0, 0
		}
		if err == nil {
			continue
		}
		full, unsure := s.neighbours.refused(err)
		switch run := c.datagrams(taken, taken+1); { // the entry that err belongs to
		case blocked(err), errors.Is(err, os.ErrDeadlineExceeded): // the latter is how another goroutine's Wait ends
			return at, ErrWouldBlock
		case errors.Is(err, net.ErrClosed):
			return at, err
		case s.isICMPError(err, &batch[at], &doubts):
			if tries++; tries == mostTries {
				return at, ErrWouldBlock
			}
		case unsure: // once more
		case full:
			return at, noNeighbour(s.source, err)
		case run > 1:
			// Which of them it is, or whether all are well and only the run is
			// not, shows when they leave singly. A full queue too may have room
			// for one.
			if at, err = s.sendSingly(batch, at, at+run, err, failed); err != nil {
				return at, err
			}
		case queueFull(err):
			return at, fmt.Errorf("send from %s: %w: %w", s.source, ErrNoBuffer, err)
		case s.aboutSource(err, &batch[at]):
			return at, pending(fmt.Sprintf("send from %s: the address or the interface is gone: %v", s.source, err), err)
		case tooLong(err) && s.needsFragments(&batch[at]):
		default:
			failed(at, s.explain(&batch[at], err))
			at++
			doubts = 0
		}
	}
	return at, nil
}

// isICMPError reports whether an error is not about d: an ICMP error, which the kernel
// reports in place of what became of a datagram that it has not tried. For that it is to
// be tried again.
func (s *Sender) isICMPError(err error, d *Datagram, doubts *int) bool {
	if s.icmpErrorOf == nil || tooLong(err) && s.exceedsMTU(d) {
		return false
	}
	may, is := s.icmpErrorOf(err)
	is = is || may && s.straysTaken.Swap(false)
	if may && !is {
		*doubts++
		return *doubts < mostDoubts
	}
	return is
}

// exceedsMTU reports whether d is longer than the interface takes, as the kernel has it now.
func (s *Sender) exceedsMTU(d *Datagram) bool {
	longest, ok := s.longestWhole()
	return ok && len(d.Payload) > longest
}

// longestWhole is the longest payload that needs no fragments now, if the kernel tells.
func (s *Sender) longestWhole() (bytes int, ok bool) {
	mtu := s.carrier.mtu(s.source.Index)
	return mtu - headers(s.source.Binding.IPv6), mtu > 0
}

// needsFragments reports whether d is to leave in fragments though it did not have to
// when the sender was opened: the MTU has become smaller.
func (s *Sender) needsFragments(d *Datagram) bool {
	longest, ok := s.longestWhole()
	if !ok || !s.source.Binding.Fragment || len(d.Payload) > s.whole || len(d.Payload) <= longest {
		return false
	}
	s.whole, s.segment = longest, min(s.segment, longest)
	return true
}

// allowFragments lets what is sent next be fragmented, or not.
func (s *Sender) allowFragments(on bool) error {
	if on == s.fragments {
		return nil
	}
	if err := s.setFragment(on); err != nil {
		return fmt.Errorf("send from %s: %w", s.source, err)
	}
	s.fragments = on
	return nil
}

// sendSingly sends batch[at:end], a run that was refused because of cause. If
// all its datagrams pass then, it is runs that the interface cannot take.
func (s *Sender) sendSingly(batch []Datagram, at, end int, cause error, failed func(int, error)) (int, error) {
	innocent := true
	at, err := s.send(batch[:end], at, false, func(i int, err error) {
		innocent = false
		failed(i, err)
	})
	if err == nil && innocent && unsegmentable(cause) {
		s.unsegmented = fmt.Errorf("the kernel or the driver of %s refuses segmented sends (UDP_SEGMENT): %w", s.source.Interface, cause)
		s.setSegment()
	}
	return at, err
}

// flush gives entries to the kernel until all are taken or one is not; it
// returns how many were, and the error of the next.
//
// sendmmsg(2) keeps the error of any entry but the first to itself and returns
// a short count; the error comes out when the call is repeated from there. In
// that case WriteBatch returns -1, not 0.
func (s *Sender) flush(ms []ipv4.Message) (taken int, err error) {
	for taken < len(ms) {
		n, err := s.write(ms[taken:])
		switch {
		case n > 0:
			taken += n
		case err != nil:
			return taken, bare(err)
		default:
			return taken, io.ErrNoProgress // the system did nothing and said nothing: do not ask for ever
		}
	}
	return taken, nil
}

// bare takes off what package net says around a system error: whose address it
// was is said by explain.
func bare(err error) error {
	if errno, ok := errors.AsType[syscall.Errno](err); ok {
		return errno
	}
	return err
}
