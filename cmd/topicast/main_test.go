package main

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"topicast/bridge/multicast"
	"topicast/internal/lab/netlab"
)

// TestMain joins two ways of starting this test binary anew: as the command
// topicast, for the scripts, and in a network namespace, for the system tests.
func TestMain(m *testing.M) {
	netlab.Join()
	testscript.Main(netlab.Enter(systemTests{m}), map[string]func(){"topicast": main, brokenTopicast: mainThatBreaks})
}

// The scripts in testdata/script are the specification of the command line: they
// run the real main in a process of its own.
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata/script",
		Cmds:                map[string]func(*testscript.TestScript, bool, []string){"exits": exits, "await": await, "udp": udp},
		Condition:           condition,
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
	})
}

// condition knows [ipv6]: the loopback interface has ::1.
func condition(name string) (bool, error) {
	if name != "ipv6" {
		return false, fmt.Errorf("unknown condition %q", name)
	}
	interfaces, err := multicast.Interfaces()
	return slices.ContainsFunc(interfaces, func(i multicast.Interface) bool {
		return slices.ContainsFunc(i.Addresses, func(a multicast.Address) bool { return a.Prefix.Addr() == netip.IPv6Loopback() })
	}), err
}

// udp SOURCE TO PAYLOAD sends a datagram from an address of this host.
func udp(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 3 {
		ts.Fatalf("usage: udp SOURCE TO PAYLOAD")
	}
	source, err := netip.ParseAddr(args[0])
	ts.Check(err)
	to, err := netip.ParseAddrPort(args[1])
	ts.Check(err)
	c, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(netip.AddrPortFrom(source, 0)))
	ts.Check(err)
	defer c.Close()
	_, err = c.WriteToUDPAddrPort([]byte(args[2]), to)
	ts.Check(err)
}

// exits STATUS COMMAND... runs a command that must end with that status.
func exits(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: exits STATUS COMMAND...")
	}
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	got := 0
	if err := ts.Exec(args[1], args[2:]...); err != nil {
		failed, ok := errors.AsType[*exec.ExitError](err)
		if !ok {
			ts.Fatalf("%v", err)
		}
		got = failed.ExitCode()
	}
	if got != want {
		ts.Fatalf("exit status %d, want %d", got, want)
	}
}

// awaitAtMost is how long a command in the background may take to get there,
// on a machine that is busy with all the other tests.
const awaitAtMost = 20 * time.Second

// await FILE PATTERN waits until a file that a command in the background writes
// matches.
func await(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: await FILE PATTERN")
	}
	pattern, err := regexp.Compile("(?m)" + args[1])
	ts.Check(err)
	var text []byte
	for end := time.Now().Add(awaitAtMost); time.Now().Before(end); time.Sleep(time.Millisecond) {
		if text, err = os.ReadFile(ts.MkAbs(args[0])); err == nil && pattern.Match(text) {
			return
		}
	}
	ts.Fatalf("%s does not match %s after %v:\n%s", args[0], pattern, awaitAtMost, bytes.TrimSpace(text))
}
