package harness

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"strings"

	"topicast/internal/lab/netlab"
)

// FindMosquitto finds the broker; Debian's is where an ordinary user's PATH does
// not look.
func FindMosquitto() (string, error) {
	path, err := exec.LookPath("mosquitto")
	if err != nil {
		path, err = exec.LookPath("/usr/sbin/mosquitto")
	}
	return path, err
}

// StartMosquitto starts the broker on a host and waits until it answers at an address
// there; config is the lines of its file. The process is there if it was started, even
// with an error.
func StartMosquitto(ctx context.Context, h *netlab.Host, file, address string, config ...string) (*netlab.Process, error) {
	program, err := FindMosquitto()
	if err != nil {
		return nil, err
	}
	// "user root" keeps it from becoming the user mosquitto, which a user
	// namespace does not have.
	text := strings.Join(append([]string{"user root"}, config...), "\n") + "\n"
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		return nil, err
	}
	p := h.Start(program, "-c", file)
	Until(ctx, Patience, func() bool {
		var conn net.Conn
		if conn, err = Dial(ctx, h, address); err == nil {
			conn.Close()
		}
		return err == nil || ended(p)
	})
	if err != nil {
		return p, fmt.Errorf("mosquitto does not answer: %w; it said: %s", err, p.Output())
	}
	return p, nil
}

func ended(p *netlab.Process) bool {
	select {
	case <-p.Exited():
		return true
	default:
		return false
	}
}
