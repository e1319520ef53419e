package multicast

import (
	"bufio"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// bindShared binds a socket to a port that others have or will have too. Linux asks
// for the same option on both sides (socket(7)): SO_REUSEADDR, which most programs
// set, or SO_REUSEPORT, for programs of one user. With both a socket gets on with
// either kind. A group's datagram goes to each socket that is bound to the group or
// to the wildcard; the balancing of SO_REUSEPORT is for unicast, which a socket bound
// to a group does not get. Which one does: hostport_linux.go.
//
// anyPort is one that nobody has yet: to a socket that shares already the kernel may
// give one that is shared. And SO_REUSEPORT at the binding has the kernel go through
// all sockets of the port, which takes a second where there are 16,000; so it is
// set before only where it is needed.
func bindShared(fd int, to unix.Sockaddr, anyPort bool) error {
	share := func(name string, which int) error {
		return option(name, unix.SetsockoptInt(fd, unix.SOL_SOCKET, which, 1))
	}
	if !anyPort {
		if err := share("SO_REUSEADDR", unix.SO_REUSEADDR); err != nil {
			return err
		}
	}
	err := unix.Bind(fd, to)
	if inUse(err) && !anyPort {
		if err := share("SO_REUSEPORT", unix.SO_REUSEPORT); err != nil {
			return err
		}
		err = unix.Bind(fd, to)
	}
	if err != nil {
		return os.NewSyscallError("bind", err)
	}
	return errors.Join(share("SO_REUSEADDR", unix.SO_REUSEADDR), share("SO_REUSEPORT", unix.SO_REUSEPORT))
}

// portTaken says which programs keep a receiver of a group from its port, and what
// can be done. It needs no privilege, but without one the programs of other users
// have no names: /proc shows whose they are.
func portTaken(group netip.AddrPort) string {
	holders := others(holdersOf(group), os.Getpid())
	if len(holders) == 0 {
		return fmt.Sprintf("port %d is taken by a program that does not share it: have it set SO_REUSEADDR before it binds, or stop it", group.Port())
	}
	const cure = "have it set SO_REUSEADDR before it binds, "
	var texts []string
	other, hidden, change := false, "", "" // another user's; how to learn its name; what user to be
	for _, h := range holders {
		if text := h.String(); !slices.Contains(texts, text) {
			texts = append(texts, text)
		}
		if h.pid == 0 {
			hidden = " (ss -ulpn as root names it)"
		}
		if h.uid != os.Geteuid() {
			other = true
			if h.uid != 0 {
				change = "run topicast as " + userName(h.uid) + ", "
			}
		}
	}
	text := fmt.Sprintf("port %d is taken: %s", group.Port(), join(texts, func(s string) string { return s }))
	if !other {
		return text + " and does not share it: " + cure + "or stop it" + hidden
	}
	return text + " and shares it with nobody, or by SO_REUSEPORT alone, which Linux grants to programs of one user only: " +
		cure + change + "or stop it" + hidden
}

// others are the sockets of other processes, if there are any: what this one has of the port, as for the
// other family, shares it.
func others(holders []portHolder, pid int) []portHolder {
	foreign := slices.DeleteFunc(slices.Clone(holders), func(h portHolder) bool { return h.pid == pid })
	if len(foreign) == 0 {
		return holders
	}
	return foreign
}

// portHolder is a socket that has a port.
type portHolder struct {
	local     netip.AddrPort
	uid       int
	inode     uint64
	program   string // "" if /proc does not show it
	pid       int
	connected bool
}

// String returns "python3 (pid 4711) of user nobody is bound to 0.0.0.0:9522"; the
// user is left out where it is ours.
func (h portHolder) String() string {
	who := "a program"
	if h.pid != 0 {
		who = fmt.Sprintf("%s (pid %d)", h.program, h.pid)
	}
	if h.uid != os.Geteuid() {
		who += " of user " + userName(h.uid)
	}
	return fmt.Sprintf("%s is bound to %s", who, h.local)
}

func userName(uid int) string {
	if u, err := user.LookupId(strconv.Itoa(uid)); err == nil {
		return u.Username
	}
	return strconv.Itoa(uid)
}

// lookedUp are the holders that were found last. A rule with thousands of groups
// asks thousands of times in a row, and each answer reads all of /proc.
var lookedUp struct {
	mu      sync.Mutex
	at      time.Time
	asked   lookup
	holders []portHolder
}

// lookup is what is asked for: of groups with one port the answer is mostly the
// same, that the wildcard is held.
type lookup struct {
	namespace string
	ipv6      bool
	port      uint16
}

// holdersAge is how long an answer is good for: less than the time after which one
// tries again.
const holdersAge = 500 * time.Millisecond

// holdersOf finds the sockets that may keep another one from being bound to addr,
// in the network namespace of the calling thread.
func holdersOf(addr netip.AddrPort) []portHolder {
	namespace, _ := os.Readlink("/proc/thread-self/ns/net")
	asked := lookup{namespace, addr.Addr().Is6(), addr.Port()}
	l := &lookedUp
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.asked != asked || time.Since(l.at) > holdersAge {
		holders := boundSockets("/proc/thread-self/net/udp6", addr.Port())
		if !asked.ipv6 {
			holders = append(boundSockets("/proc/thread-self/net/udp", addr.Port()), holders...)
		}
		namePrograms(holders)
		l.holders, l.asked, l.at = holders, asked, time.Now()
	}
	var found []portHolder
	for _, h := range l.holders {
		if a := h.local.Addr(); a.IsUnspecified() || a == addr.Addr() || addr.Addr().IsUnspecified() {
			found = append(found, h)
		}
	}
	return found
}

// boundSockets reads those with a port from a table of the kernel (proc_net_udp.txt
// has it for TCP; UDP's has the same columns).
func boundSockets(table string, port uint16) (holders []portHolder) {
	f, err := os.Open(table)
	if err != nil {
		return nil
	}
	defer f.Close()
	suffix := fmt.Sprintf(":%04X", port)
	for lines := bufio.NewScanner(f); lines.Scan(); {
		fields := strings.Fields(lines.Text())
		if len(fields) < 10 || !strings.HasSuffix(fields[1], suffix) {
			continue
		}
		h := portHolder{local: netip.AddrPortFrom(tableAddr(strings.TrimSuffix(fields[1], suffix)), port)}
		h.uid, _ = strconv.Atoi(fields[7])
		h.connected = strings.Trim(fields[2], "0:") != ""
		h.inode, _ = strconv.ParseUint(fields[9], 10, 64)
		if h.local.IsValid() {
			holders = append(holders, h)
		}
	}
	return holders
}

// tableAddr reads an address as the table has it: words of 32 bits in the order of
// this machine.
func tableAddr(text string) netip.Addr {
	words, err := hex.DecodeString(text)
	if err != nil || len(words) != 4 && len(words) != 16 {
		return netip.Addr{}
	}
	for i := 0; i < len(words); i += 4 {
		binary.NativeEndian.PutUint32(words[i:], binary.BigEndian.Uint32(words[i:]))
	}
	a, _ := netip.AddrFromSlice(words)
	return a.Unmap()
}

// namePrograms finds the processes that have the sockets open, as far as we may
// look into them.
func namePrograms(holders []portHolder) {
	wanted := make(map[string][]int)
	for i, h := range holders {
		link := fmt.Sprintf("socket:[%d]", h.inode)
		wanted[link] = append(wanted[link], i)
	}
	proc, err := os.Open("/proc")
	if err != nil || len(holders) == 0 {
		return
	}
	defer proc.Close()
	for {
		names, err := proc.Readdirnames(256)
		for _, name := range names {
			pid, notOne := strconv.Atoi(name)
			if notOne != nil {
				continue
			}
			for _, i := range socketsOf(name, wanted) {
				if h := &holders[i]; h.pid == 0 || pid < h.pid { // of those that share it by fork(2), the first
					h.pid, h.program = pid, commandOf(name)
				}
			}
		}
		if err != nil { // io.EOF, or what makes it the end
			return
		}
	}
}

func socketsOf(pid string, wanted map[string][]int) (found []int) {
	fds, err := os.Open(filepath.Join("/proc", pid, "fd"))
	if err != nil {
		return nil // of another user
	}
	defer fds.Close()
	names, err := fds.Readdirnames(-1)
	if err != nil && err != io.EOF {
		return nil
	}
	for _, name := range names {
		if link, err := os.Readlink(filepath.Join("/proc", pid, "fd", name)); err == nil {
			found = append(found, wanted[link]...)
		}
	}
	return found
}

func commandOf(pid string) string {
	text, err := os.ReadFile(filepath.Join("/proc", pid, "comm"))
	if err != nil {
		return "a program"
	}
	return strings.TrimSpace(string(text))
}
