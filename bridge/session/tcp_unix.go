//go:build unix

package session

import (
	"net"
	"os"
	"syscall"
)

// rawWriter writes to a TCP connection what the kernel takes at once: sockets of package
// net are non-blocking, and wait by themselves only when Write asks them to. One call at
// a time; it makes no garbage.
type rawWriter struct {
	conn      syscall.RawConn       // nil: it cannot
	writeOnce func(fd uintptr) bool // reports true: it is not to be called again

	b    []byte // what writeOnce is to write, and what came of it
	sent int
	err  error
}

func (w *rawWriter) use(tcp *net.TCPConn) {
	w.conn, _ = tcp.SyscallConn()
	w.writeOnce = func(fd uintptr) bool {
		w.sent, w.err = 0, nil
		for {
			n, err := syscall.Write(int(fd), w.b)
			switch err {
			case syscall.EINTR:
				continue
			case syscall.EAGAIN:
			default:
				w.err = err
			}
			w.sent = max(n, 0) // -1 with an error
			w.b = nil
			return true
		}
	}
}

// able reports whether it can write.
func (w *rawWriter) able() bool { return w.conn != nil }

// write writes as much of b as there is room for.
func (w *rawWriter) write(b []byte) (sent int, err error) {
	w.b = b
	if err := w.conn.Write(w.writeOnce); err != nil {
		return 0, err
	}
	if w.err != nil {
		return w.sent, os.NewSyscallError("write", w.err)
	}
	return w.sent, nil
}
