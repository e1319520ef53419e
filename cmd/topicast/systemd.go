package main

import (
	"context"
	"log/slog"
	"os"
	"strings"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"
)

// systemd tells the service manager how things stand (sd_notify(3)). Where none
// asks for that, by NOTIFY_SOCKET, nothing is done.
type systemd struct{ log *slog.Logger }

// ready says that the bridge is at work, or at work again after reloading.
// systemctl status shows the status, which is one line; where nobody asks, it is
// not made.
func (s systemd) ready(status func() string) {
	if os.Getenv("NOTIFY_SOCKET") != "" {
		s.tell(daemon.SdNotifyReady, "STATUS="+oneLine(status()))
	}
}

// reloading must be followed by ready. The time is what Type=notify-reload asks
// for, so that this is not taken for the answer to an earlier signal.
func (s systemd) reloading() {
	s.tell(daemon.SdNotifyReloading, daemon.SdNotifyMonotonicUsec())
}

func (s systemd) stopping() {
	s.tell(daemon.SdNotifyStopping, "STATUS=finishing what is on its way")
}

// heartbeat says that we live, twice in the time that WatchdogSec= allows, until ctx
// ends. It goes silent while alive is false or does not return, so that systemd
// starts us anew.
func (s systemd) heartbeat(ctx context.Context, alive func() bool) {
	within, err := daemon.SdWatchdogEnabled(false)
	if err != nil {
		s.log.Warn("cannot tell systemd that we live", "err", err)
	}
	if within == 0 {
		return
	}
	tick := time.NewTicker(within / 2)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			if alive() {
				s.tell(daemon.SdNotifyWatchdog)
			}
		}
	}
}

func (s systemd) tell(lines ...string) {
	if _, err := daemon.SdNotify(false, strings.Join(lines, "\n")); err != nil {
		s.log.Warn("cannot tell systemd how things stand", "err", err)
	}
}

// oneLine keeps a text from being taken for several assignments.
func oneLine(text string) string { return strings.Join(strings.Fields(text), " ") }
