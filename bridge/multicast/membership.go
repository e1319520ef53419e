package multicast

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
)

// memberSocket is a socket that holds memberships in the receiver's group. Mostly there
// is one, the receiver's own.
type memberSocket struct {
	ip      packetConn
	sources []netip.Addr // none: anybody
	extra   *net.UDPConn // nil: it is the receiver's own
}

// join joins the group on the receiver's own socket, or, where the sources are
// more than one socket may name on this system, on several (joinAcrossSockets).
func (r *Receiver) join(own packetConn, sources []netip.Addr) error {
	sources = slices.Clone(sources)
	slices.SortFunc(sources, netip.Addr.Compare)
	s := memberSocket{ip: own, sources: slices.Compact(sources)}
	named, err := r.joinOn(s)
	if named > 0 && queueFull(err) {
		return r.joinAcrossSockets(s)
	}
	r.sockets = []memberSocket{s}
	return err
}

// joinOn joins on one socket, and returns how many sources were joined. Joining
// goes by the interface's index: by address it would be ambiguous, and without
// either the routes would choose.
func (r *Receiver) joinOn(s memberSocket) (named int, err error) {
	group := r.groupAddr()
	if len(s.sources) == 0 {
		return 0, option("membership", s.ip.JoinGroup(&r.on, group))
	}
	for i, source := range s.sources {
		if err := s.ip.JoinSourceSpecificGroup(&r.on, group, &net.UDPAddr{IP: source.AsSlice()}); err != nil {
			return i, option("membership from "+source.String(), err)
		}
	}
	return len(s.sources), nil
}

// leave leaves on one socket, from all its sources at once. There may be nothing to
// leave; if there is and it fails, the next joinOn reports it.
func (r *Receiver) leave(s memberSocket) { _ = s.ip.LeaveGroup(&r.on, r.groupAddr()) }

func (r *Receiver) groupAddr() *net.UDPAddr { return &net.UDPAddr{IP: r.group.Addr().AsSlice()} }

// Rejoin leaves the group and joins it again, on the same socket, so that the
// network gets a fresh report: after the carrier has been away, IPv4 sends none by
// itself, and a switch may have forgotten who listens. What has arrived already is
// kept, what arrives between the two is lost. If another socket of the host has
// joined the same group on the interface, the kernel sends no report.
//
// What comes to the host itself has nothing to join: there it does nothing.
//
// It may be called while Receive waits. The error wraps ErrPending if the
// interface is gone; then nothing is joined until a later Rejoin succeeds. It is
// net.ErrClosed after Close.
//
// It also works after the interface was deleted and made anew with the same index.
// But where several receivers have one group, close them all first and listen
// anew: the leaving of one that joined before the deletion undoes the joining of
// one that did after, since the kernel counts both as one.
func (r *Receiver) Rejoin() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, s := range r.sockets {
		r.leave(s)
	}
	for _, s := range r.sockets {
		_, err := r.joinOn(s)
		if unreachable(err) {
			err = pending(fmt.Sprintf("interface %s is gone: %v", r.on.Name, err), err)
		}
		if err != nil {
			return fmt.Errorf("join %s again on %s: %w", r.group, r.on.Name, err)
		}
	}
	return nil
}

// SetSources changes from whom datagrams are received, none: from anybody, without leaving
// the group, so that nothing is lost of those from whom they were and are received. Those
// that have arrived of others are left out. If it fails nothing has changed, and a new
// receiver is needed: errors.ErrUnsupported outside Linux, and where the sources are, or
// were, more than one socket may name, and of what comes to the host itself. It may be
// called while Receive waits.
func (r *Receiver) SetSources(sources []netip.Addr) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.host() {
		return errors.ErrUnsupported
	}
	sources = slices.Clone(sources)
	slices.SortFunc(sources, netip.Addr.Compare)
	sources = slices.Compact(sources)
	if err := r.replaceSources(sources); err != nil {
		return fmt.Errorf("change the sources of %s on %s: %w", r.group, r.on.Name, err)
	}
	r.sockets[0].sources = sources
	r.setOnly(sources)
	return nil
}

// closeExtra closes the sockets that only hold memberships.
func (r *Receiver) closeExtra() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	var errs []error
	for _, s := range r.sockets {
		if s.extra == nil {
			continue
		}
		if err := s.extra.Close(); !errors.Is(err, net.ErrClosed) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}
