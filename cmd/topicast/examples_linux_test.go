package main

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// Every example in the help works when it is pasted into a shell, beside a
// configuration with the names that the examples use.
func TestExamplesWorkAsPasted(t *testing.T) {
	const config = `
broker: {username: gateway}
web: {listen: ""}
send:
  - {name: lamps, filter: "site/{floor}/lamp/{id}/set", group: "239.255.{floor}.{id}:30000", source: 127.0.0.1}
receive:
  - {name: meters, group: "239.255.3.7:30001", interface: 127.0.0.1, source: 127.0.0.0/8, topic: "lamps/{source}/state"}
  - {port: 6454, interface: lo, topic: "artnet/{source}"}
`
	// These go on until they are stopped, which is no failure.
	endless := map[string]bool{"run": true, "demo": true, "listen": true, "learn": true}
	// These ask a running bridge, or a file, that there is none of here: they say so, which is no wrong usage.
	lacking := map[string]bool{"status": true, "tap": true, "record": true, "disable": true, "enable": true, "flush": true, "rejoin": true, "doctor": true, "learn": true, "replay": true}
	stands := strings.NewReplacer("192.0.2.5", "127.0.0.1", "eth0", "lo") // an address of this host, and an interface
	for _, c := range everyCommand() {
		for line := range strings.Lines(c.Example) {
			line = stands.Replace(strings.TrimSpace(line))
			t.Run(line, func(t *testing.T) {
				dir := t.TempDir()
				for _, name := range []string{"topicast.yaml", "gateway.yaml"} {
					if err := os.WriteFile(filepath.Join(dir, name), []byte(config), 0o600); err != nil {
						t.Fatal(err)
					}
				}
				cmd := exec.CommandContext(t.Context(), "sh", "-c", "trap : INT; "+line) // the shell too is pressed Ctrl-C
				cmd.Dir = dir
				output, err := runExample(cmd, endless[c.Name()] || strings.HasPrefix(line, "topicast demo"))
				if ended, _ := errors.AsType[*exec.ExitError](err); lacking[c.Name()] && ended != nil && ended.ExitCode() == 1 {
					err = nil
				}
				if err != nil {
					t.Errorf("%v:\n%s", err, output)
				}
			})
		}
	}
}

// runExample runs a shell to its end; if it is endless, it presses Ctrl-C at
// the first line of output.
func runExample(cmd *exec.Cmd, endless bool) (output string, err error) {
	read, write, err := os.Pipe()
	if err != nil {
		return "", err
	}
	defer read.Close()
	cmd.Stdout, cmd.Stderr = write, write
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // as a terminal signals the whole group
	err = cmd.Start()
	write.Close()
	if err != nil {
		return "", err
	}
	var all bytes.Buffer
	lines := bufio.NewReader(io.TeeReader(read, &all))
	if _, err := lines.ReadString('\n'); err == nil && endless {
		if err := syscall.Kill(-cmd.Process.Pid, syscall.SIGINT); err != nil {
			return all.String(), err
		}
	}
	if _, err := io.Copy(io.Discard, lines); err != nil {
		return all.String(), err
	}
	return all.String(), cmd.Wait()
}
