package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

const serviceFile = "../../configs/systemd/topicast.service"

// unitKeys are the settings of a unit that the service uses, those of
// systemd.unit(5), systemd.service(5), systemd.exec(5), systemd.kill(5) and
// systemd.resource-control(5). systemd overlooks one that is misspelt.
var unitKeys = map[string][]string{
	"Unit": {"Description", "After", "StartLimitIntervalSec"},
	"Service": {
		"Type", "ExecStart", "ExecReload", "Restart", "RestartSec", "RestartPreventExitStatus", "WatchdogSec", "TimeoutStopSec",
		"DynamicUser", "User", "LoadCredential", "Environment", "StateDirectory", "StateDirectoryMode", "UMask", "LimitNOFILE",
		"MemoryMax", "CapabilityBoundingSet", "AmbientCapabilities", "NoNewPrivileges", "RestrictAddressFamilies",
		"SystemCallFilter", "SystemCallErrorNumber", "SystemCallArchitectures", "ReadWritePaths", "ProtectSystem", "ProtectHome",
		"PrivateTmp", "PrivateDevices", "ProtectClock", "ProtectControlGroups", "ProtectHostname", "ProtectKernelLogs",
		"ProtectKernelModules", "ProtectKernelTunables", "ProtectProc", "ProcSubset", "RestrictNamespaces", "RestrictRealtime",
		"RestrictSUIDSGID", "LockPersonality", "MemoryDenyWriteExecute", "RemoveIPC", "KeyringMode",
	},
	"Install": {"WantedBy"},
}

// unit reads a unit file: its settings by section and key. The settings that the
// comments propose are in it by "#" and the key.
func unit(t *testing.T) map[string][]string {
	t.Helper()
	text, err := os.ReadFile(serviceFile)
	if err != nil {
		t.Fatal(err)
	}
	settings, section := map[string][]string{}, ""
	for i, line := range strings.Split(string(text), "\n") {
		proposed, isProposed := strings.CutPrefix(line, "#   ")
		key, value, isSetting := strings.Cut(strings.TrimPrefix(line, "#   "), "=")
		switch {
		case line == "" || strings.HasPrefix(line, "#") && (!isProposed || !isSetting || strings.Contains(key, " ")):
		case strings.HasPrefix(line, "["):
			section = strings.Trim(line, "[]")
		case !isSetting || !slices.Contains(unitKeys[section], key):
			t.Errorf("line %d: %q is no setting of [%s]", i+1, proposed+line, section)
		case isProposed:
			settings["#"+key] = append(settings["#"+key], value)
		default:
			settings[key] = append(settings[key], value)
		}
	}
	return settings
}

func TestTheServiceIsWhatSystemdAndTheProgramKnow(t *testing.T) {
	u := unit(t)
	for key, want := range map[string]string{
		"Type": "notify", "Restart": "always", "StateDirectory": "topicast", "ExecReload": "/bin/kill -HUP $MAINPID", "CapabilityBoundingSet": "",
	} {
		if got := u[key]; len(got) != 1 || got[0] != want {
			t.Errorf("%s is %q, want %q", key, got, want)
		}
	}
	for _, family := range []string{"AF_INET", "AF_INET6", "AF_NETLINK", "AF_UNIX"} {
		if !slices.Contains(strings.Fields(u["RestrictAddressFamilies"][0]), family) {
			t.Errorf("topicast needs %s", family)
		}
	}
	if got := u["RestartPreventExitStatus"][0]; got != fmt.Sprint(exitUsage) {
		t.Errorf("wrong usage is %d, not %s", exitUsage, got)
	}
	stop, err := time.ParseDuration(u["TimeoutStopSec"][0] + "s")
	if err != nil || stop < 15*time.Second {
		t.Errorf("%v (%v) is not enough for the end", stop, err)
	}
	if len(u["#CapabilityBoundingSet"]) != 1 || len(u["#LoadCredential"]) != 1 {
		t.Errorf("the proposals were not read: %q", u)
	}
}

func TestTheServiceStartsACommandThatExists(t *testing.T) {
	args := strings.Fields(unit(t)["ExecStart"][0])
	c, rest, err := newRootCommand().Find(args[1:])
	if err != nil || c.Name() != "run" {
		t.Fatalf("%q: %v", args, err)
	}
	if err := c.ParseFlags(rest); err != nil {
		t.Errorf("%q: %v", args, err)
	}
	if file, err := c.Flags().GetString("config"); err != nil || file != "/etc/topicast/topicast.yaml" {
		t.Errorf("it loads %q, %v", file, err)
	}
}

// mostExposure is on systemd's scale from 0 to 100; above 50 it speaks of medium.
const mostExposure = "20"

func TestSystemdTakesTheService(t *testing.T) {
	analyze, err := exec.LookPath("systemd-analyze")
	if err != nil {
		t.Skip("systemd-analyze is not installed")
	}
	text, err := os.ReadFile(serviceFile)
	if err != nil {
		t.Fatal(err)
	}
	// It looks for the program, and this one is always there.
	file := filepath.Join(t.TempDir(), "topicast.service")
	if err := os.WriteFile(file, []byte(strings.Replace(string(text), "/usr/local/bin/topicast", "/bin/sh", 1)), 0o600); err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command(analyze, "verify", "--man=no", file).CombinedOutput()
	if err != nil || strings.Contains(string(out), file) {
		t.Errorf("systemd-analyze verify: %v\n%s", err, out)
	}
	if help, _ := exec.Command(analyze, "--help").Output(); !strings.Contains(string(help), "--offline") {
		t.Skip("this systemd-analyze cannot look at the security of a file")
	}
	if out, err := exec.Command(analyze, "security", "--no-pager", "--offline=true", "--threshold="+mostExposure, file).CombinedOutput(); err != nil {
		t.Errorf("systemd-analyze security: %v\n%s", err, out)
	}
}
