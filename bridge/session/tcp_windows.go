package session

import (
	"errors"
	"net"
)

// rawWriter cannot write: the sockets of Windows wait in the kernel.
type rawWriter struct{}

func (*rawWriter) use(*net.TCPConn)          {}
func (*rawWriter) able() bool                { return false }
func (*rawWriter) write([]byte) (int, error) { return 0, errors.ErrUnsupported }
