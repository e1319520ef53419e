package main

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
)

// What systemd sees of a service from its start to its end, without a broker.
func TestSystemdSeesTheServiceFromStartToEnd(t *testing.T) {
	binary, err := topicastBinary()
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "topicast.yaml")
	write := func(yaml string) {
		t.Helper()
		if err := os.WriteFile(file, []byte("broker: {url: \"mqtt://127.0.0.1:1\"}\nweb: {listen: \"\"}\n"+yaml), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write(oneRule)
	m := newManager(t)
	var out bytes.Buffer
	service := exec.Command(binary, "run", "--config", file)
	service.Env = append(os.Environ(), "NOTIFY_SOCKET="+m.name, "WATCHDOG_USEC=200000")
	service.Stderr = &out
	if err := service.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		_ = service.Process.Kill()
		_ = service.Wait()
		if t.Failed() {
			t.Log(out.String())
		}
	}()
	signal := func(s os.Signal) {
		t.Helper()
		if err := service.Process.Signal(s); err != nil {
			t.Fatal(err)
		}
	}
	const beat = "^WATCHDOG=1$"
	m.told(`READY=1\nSTATUS=1 send rule, .*`, beat)
	for range 3 {
		m.told("WATCHDOG=1", "")
	}
	signal(syscall.SIGHUP)
	m.told(`RELOADING=1\nMONOTONIC_USEC=\d+\n`, beat)
	m.told(`READY=1\nSTATUS=1 send rule, .*`, beat)
	write(twoRules) // and nobody asks
	m.told(`RELOADING=1\nMONOTONIC_USEC=\d+\n`, beat)
	m.told(`READY=1\nSTATUS=2 send rules, .*`, beat)
	write("nonsense: 1\n" + twoRules)
	m.told(`RELOADING=1\nMONOTONIC_USEC=\d+\n`, beat)
	m.told(`READY=1\nSTATUS=configuration not reloaded; the old one stays in force: .*topicast.yaml:3:1: nonsense: unknown key`, beat)
	signal(syscall.SIGTERM)
	m.told(`STOPPING=1\nSTATUS=.+`, beat)
	if err := service.Wait(); err != nil {
		t.Error(err)
	}
}
