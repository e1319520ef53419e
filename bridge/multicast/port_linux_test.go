package multicast

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"topicast/internal/lab/netlab"
)

// The tests of this file are about a port that other programs hold too.

// holder is another program's socket.
type holder struct {
	t    *testing.T
	file *os.File
}

// hold binds a socket of a user on a host with options of SOL_SOCKET set. An IPv6
// wildcard takes IPv4 too.
func hold(t *testing.T, h *netlab.Host, uid int, at netip.AddrPort, options ...int) (*holder, error) {
	t.Helper()
	k := &holder{t: t}
	err := h.Do(func() error {
		domain := unix.AF_INET
		if at.Addr().Is6() {
			domain = unix.AF_INET6
		}
		// A socket belongs to the user of the thread that makes it.
		if err := unix.Setfsuid(uid); err != nil {
			return err
		}
		fd, err := unix.Socket(domain, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
		if err := errors.Join(err, unix.Setfsuid(os.Geteuid())); err != nil {
			return err
		}
		k.file = os.NewFile(uintptr(fd), "holder")
		for _, o := range options {
			if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, o, 1); err != nil {
				return err
			}
		}
		return unix.Bind(fd, sockaddr(at, 0))
	})
	if k.file != nil {
		t.Cleanup(func() { k.file.Close() })
	}
	return k, err
}

func (k *holder) fd(f func(fd int) error) error {
	raw, err := k.file.SyscallConn()
	if err != nil {
		return err
	}
	return errors.Join(raw.Control(func(fd uintptr) { err = f(int(fd)) }), err)
}

// join joins a group of its socket's family.
func (k *holder) join(group netip.Addr, index int) {
	k.t.Helper()
	err := k.fd(func(fd int) error {
		if group.Is6() {
			return unix.SetsockoptIPv6Mreq(fd, unix.IPPROTO_IPV6, unix.IPV6_JOIN_GROUP, &unix.IPv6Mreq{Multiaddr: group.As16(), Interface: uint32(index)})
		}
		return unix.SetsockoptIPMreqn(fd, unix.IPPROTO_IP, unix.IP_ADD_MEMBERSHIP, &unix.IPMreqn{Multiaddr: group.As4(), Ifindex: int32(index)})
	})
	if err != nil {
		k.t.Fatal(err)
	}
}

// next waits for n datagrams.
func (k *holder) next(n int) (payloads []string) {
	k.t.Helper()
	k.file.SetReadDeadline(time.Now().Add(10 * time.Second))
	b := make([]byte, 1500)
	for range n {
		n, err := k.file.Read(b)
		if err != nil {
			k.t.Fatalf("the holder heard %q: %v", payloads, err)
		}
		payloads = append(payloads, string(b[:n]))
	}
	return payloads
}

// sharing are the ways in which a program shares its port.
var sharing = map[string][]int{
	"SO_REUSEADDR": {unix.SO_REUSEADDR},
	"SO_REUSEPORT": {unix.SO_REUSEPORT},
	"both":         {unix.SO_REUSEADDR, unix.SO_REUSEPORT},
}

// Whatever a program of the same user binds and however it shares, both have the
// port, whoever comes first; and of a group both get each datagram.
func TestAPortIsSharedWithWhoeverShares(t *testing.T) {
	rig := netlab.NewRig(t)
	from := map[bool]*Sender{false: sendersOn(t, rig.Dev, "172.17.0.50")[0], true: sendersOn(t, rig.Dev, "fd17::50")[0]}
	port := uint16(40000)
	for how, options := range sharing {
		for _, tt := range []struct {
			group, at string
			joins     bool
		}{
			{"239.1.1.1", "0.0.0.0", true},
			{"239.1.1.1", "239.1.1.1", true},
			{"239.1.1.1", "172.17.0.1", false},
			{"239.1.1.1", "::", false}, // IPv4 too; it hears unicast
			{"ff15::1", "::", true},
			{"ff15::1", "ff15::1", true},
			{"ff15::1", "fd17::1", false},
			{"ff15::1", "0.0.0.0", false},
		} {
			for _, first := range []bool{true, false} {
				port++
				name := fmt.Sprintf("%s, bound to %s, for %s, first %t", how, tt.at, tt.group, first)
				group := netip.AddrPortFrom(netip.MustParseAddr(tt.group), port)
				at := netip.AddrPortFrom(netip.MustParseAddr(tt.at), port)
				var rs []*Receiver
				if !first {
					rs = append(rs, listenOn(t, rig.GW, group, "iso0"), listenOn(t, rig.GW, group, "iso0"))
				}
				k, err := hold(t, rig.GW, os.Geteuid(), at, options...)
				if err != nil {
					t.Errorf("%s: the program cannot have the port: %v", name, err)
					continue
				}
				if tt.joins {
					k.join(group.Addr(), rig.GW.Index("iso0"))
				}
				if first {
					rs = append(rs, listenOn(t, rig.GW, group, "iso0"), listenOn(t, rig.GW, group, "iso0"))
				}
				send(t, from[group.Addr().Is6()], group, "one", "two")
				for _, r := range rs {
					if got := payloads(next(t, r, 2)); got[0] != "one" || got[1] != "two" {
						t.Errorf("%s: a receiver heard %q", name, got)
					}
				}
				if tt.joins {
					if got := k.next(2); got[0] != "one" || got[1] != "two" {
						t.Errorf("%s: the program heard %q", name, got)
					}
				}
				for _, r := range rs {
					r.Close()
				}
			}
		}
	}
}

// Programs that share by SO_REUSEADDR alone and by SO_REUSEPORT alone cannot share
// with one another, and yet each shares with us.
func TestAPortIsSharedWithTwoKindsAtOnce(t *testing.T) {
	rig := netlab.NewRig(t)
	r := listenOn(t, rig.GW, rigGroup, "iso0")
	for how, options := range sharing {
		k, err := hold(t, rig.GW, os.Geteuid(), netip.AddrPortFrom(netip.IPv4Unspecified(), rigGroup.Port()), options...)
		if err != nil {
			t.Errorf("%s: %v", how, err)
		}
		k.file.Close()
	}
	send(t, sendersOn(t, rig.Dev, "172.17.0.50")[0], rigGroup, "one")
	next(t, r, 1)
}

// otherUser is one that can be taken on, or the test ends.
func otherUser(t *testing.T, rig *netlab.Rig) int {
	t.Helper()
	const nobody = 65534
	k, err := hold(t, rig.GW, nobody, netip.MustParseAddrPort("127.0.0.1:0"))
	var s unix.Stat_t
	if err == nil {
		err = k.fd(func(fd int) error { return unix.Fstat(fd, &s) })
	}
	if err != nil || s.Uid != nobody {
		netlab.Skip(t, "no other user to be (%v)", err)
	}
	return nobody
}

// The reason says who has the port and what to do.
func TestListenSaysWhoHasThePort(t *testing.T) {
	rig := netlab.NewRig(t)
	comm, err := os.ReadFile("/proc/self/comm")
	if err != nil {
		t.Fatal(err)
	}
	own := fmt.Sprintf("%s (pid %d)", bytes.TrimSpace(comm), os.Getpid())
	for _, tt := range []struct {
		name, group, at string
		other           bool // another user's
		options         []int
		want            string
	}{
		{"unshared", "239.1.1.1:41001", "0.0.0.0:41001", false, nil,
			"port 41001 is taken: " + own + " is bound to 0.0.0.0:41001 and does not share it: have it set SO_REUSEADDR before it binds, or stop it"},
		{"the group", "239.1.1.1:41002", "239.1.1.1:41002", false, nil,
			"port 41002 is taken: " + own + " is bound to 239.1.1.1:41002 and does not share it: have it set SO_REUSEADDR before it binds, or stop it"},
		{"dual stack", "239.1.1.1:41003", "[::]:41003", false, nil,
			"port 41003 is taken: " + own + " is bound to [::]:41003 and does not share it: have it set SO_REUSEADDR before it binds, or stop it"},
		{"IPv6", "[ff15::1]:41004", "[::]:41004", false, nil,
			"port 41004 is taken: " + own + " is bound to [::]:41004 and does not share it: have it set SO_REUSEADDR before it binds, or stop it"},
		{"another user's", "239.1.1.1:41005", "0.0.0.0:41005", true, []int{unix.SO_REUSEPORT},
			"port 41005 is taken: " + own + " of user " + userName(65534) + " is bound to 0.0.0.0:41005 and shares it with nobody, or by SO_REUSEPORT alone, " +
				"which Linux grants to programs of one user only: have it set SO_REUSEADDR before it binds, run topicast as " + userName(65534) + ", or stop it"},
	} {
		uid := os.Geteuid()
		if tt.other {
			uid = otherUser(t, rig)
		}
		k, err := hold(t, rig.GW, uid, netip.MustParseAddrPort(tt.at), tt.options...)
		if err != nil {
			t.Fatalf("%s: %v", tt.name, err)
		}
		err = rig.GW.Do(func() error {
			r, err := listenAt("iso0", ReceiverOptions{Group: netip.MustParseAddrPort(tt.group)})
			if err == nil {
				r.Close()
			}
			return err
		})
		want := fmt.Sprintf("listen to %s on iso0: %s", tt.group, tt.want)
		if err == nil || err.Error() != want || !errors.Is(err, unix.EADDRINUSE) {
			t.Errorf("%s:\n got %v\nwant %s", tt.name, err, want)
		}
		k.file.Close()
	}
}

// What shares by SO_REUSEADDR may belong to anybody.
func TestAPortIsSharedWithAnotherUser(t *testing.T) {
	rig := netlab.NewRig(t)
	uid := otherUser(t, rig)
	wild := netip.MustParseAddrPort("0.0.0.0:30000")
	for _, how := range []string{"SO_REUSEADDR", "both"} {
		before, err := hold(t, rig.GW, uid, wild, sharing[how]...)
		if err != nil {
			t.Fatal(err)
		}
		r := listenOn(t, rig.GW, rigGroup, "iso0")
		if _, err := hold(t, rig.GW, uid, wild, sharing[how]...); err != nil {
			t.Errorf("%s, later: %v", how, err)
		}
		before.file.Close()
		r.Close()
	}
}

// With a port of the kernel's choice it is a free one: not that of a program that
// shares, which would hear a self-test. And yet such a program may come later.
func TestAFreePortIsNobodysAndIsShared(t *testing.T) {
	rig := netlab.NewRig(t)
	rig.GW.Sysctl("net.ipv4.ip_local_port_range", "42000 42003")
	var held []uint16
	for port, options := range map[uint16][]int{42000: sharing["SO_REUSEADDR"], 42001: sharing["SO_REUSEPORT"], 42002: sharing["both"]} {
		if _, err := hold(t, rig.GW, os.Geteuid(), netip.AddrPortFrom(netip.IPv4Unspecified(), port), options...); err != nil {
			t.Fatal(err)
		}
		held = append(held, port)
	}
	on := net.Interface{Name: "iso0", Index: rig.GW.Index("iso0")}
	for range 8 {
		var r *Receiver
		err := rig.GW.Do(func() (err error) {
			r, err = listen(ReceiverOptions{Group: netip.AddrPortFrom(probeGroup4, 0)}, &on, false)
			return err
		})
		if err != nil || r.Group().Port() != 42003 {
			t.Fatalf("%v, %v, with %v held", r.Group(), err, held)
		}
		for how, options := range sharing {
			k, err := hold(t, rig.GW, os.Geteuid(), netip.AddrPortFrom(netip.IPv4Unspecified(), 42003), options...)
			if err != nil {
				t.Errorf("%s: %v", how, err)
			}
			k.file.Close()
		}
		r.Close()
	}
}

func TestWhoKeepsAPortIsAnotherProcessWhereThereIsOne(t *testing.T) {
	us, them := portHolder{program: "topicast", pid: 7}, portHolder{program: "python3", pid: 8}
	if got := others([]portHolder{them, us}, 7); !slices.Equal(got, []portHolder{them}) {
		t.Errorf("%v", got)
	}
	if got := others([]portHolder{us}, 7); !slices.Equal(got, []portHolder{us}) {
		t.Errorf("%v", got)
	}
}
