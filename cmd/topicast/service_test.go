package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"topicast/bridge"
)

const serviceFile = "../../configs/systemd/topicast.service"

// unitKeys are the settings of a unit that the service uses, those of
// systemd.unit(5), systemd.service(5), systemd.exec(5), systemd.kill(5) and
// systemd.resource-control(5). systemd overlooks one that is misspelt.
var unitKeys = map[string][]string{
	"Unit": {"Description", "After", "StartLimitIntervalSec"},
	"Service": {
		"Type", "ExecStart", "ExecReload", "Restart", "RestartSec", "RestartPreventExitStatus", "RestartSteps", "RestartMaxDelaySec", "WatchdogSec", "TimeoutStopSec",
		"DynamicUser", "User", "LoadCredential", "Environment", "EnvironmentFile", "StateDirectory", "StateDirectoryMode", "RuntimeDirectory", "RuntimeDirectoryMode", "UMask", "LimitNOFILE",
		"MemoryMax", "CapabilityBoundingSet", "AmbientCapabilities", "NoNewPrivileges", "RestrictAddressFamilies",
		"SystemCallFilter", "SystemCallErrorNumber", "SystemCallArchitectures", "ReadWritePaths", "ProtectSystem", "ProtectHome",
		"PrivateTmp", "PrivateDevices", "ProtectClock", "ProtectControlGroups", "ProtectHostname", "ProtectKernelLogs",
		"ProtectKernelModules", "ProtectKernelTunables", "ProtectProc", "RestrictNamespaces", "RestrictRealtime",
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
		"Type": "notify", "Restart": "always", "StateDirectory": "topicast", "RuntimeDirectory": "topicast", "CapabilityBoundingSet": "",
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
	if len(u["#CapabilityBoundingSet"]) != 1 || len(u["#LoadCredential"]) != 1 || len(u["#RestartSteps"]) != 1 {
		t.Errorf("the proposals were not read: %q", u)
	}
}

// The program ends within bridge.EndLimit; who waits for it must wait longer, and the docs
// say both.
func TestWhoStopsTheProgramWaitsLongEnough(t *testing.T) {
	const margin = 5 * time.Second
	stop, err := time.ParseDuration(unit(t)["TimeoutStopSec"][0] + "s")
	if err != nil || stop < bridge.EndLimit+margin {
		t.Errorf("TimeoutStopSec is %v (%v), the end may take %v", stop, err, bridge.EndLimit)
	}
	compose, err := os.ReadFile("../../docker-compose.yml")
	if err != nil {
		t.Fatal(err)
	}
	_, grace, _ := strings.Cut(string(compose), "stop_grace_period: ")
	if grace, err := time.ParseDuration(strings.Fields(grace)[0]); err != nil || grace < bridge.EndLimit+margin {
		t.Errorf("stop_grace_period is %v (%v), the end may take %v", grace, err, bridge.EndLimit)
	}
	docs, err := os.ReadFile("../../docs/reliability.md")
	if err != nil {
		t.Fatal(err)
	}
	text := strings.Join(strings.Fields(string(docs)), " ")
	for _, want := range []string{
		fmt.Sprintf("The process ends within %.0f seconds, whatever hangs", bridge.EndLimit.Seconds()),
		fmt.Sprintf("The unit allows %.0f seconds (`TimeoutStopSec=`)", stop.Seconds()),
	} {
		if !strings.Contains(text, want) {
			t.Errorf("docs/reliability.md does not say %q", want)
		}
	}
	const docker = 10 * time.Second // docker stop(1)
	if endLimit >= docker || endLimit >= bridge.EndLimit {
		t.Errorf("the process is told to end after %v", endLimit)
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

// A reload must fail where the file does: systemd runs the commands in turn, and no
// further than the first that fails (systemd.service(5), ExecReload=).
func TestTheServiceChecksTheFileThatItRunsBeforeAReload(t *testing.T) {
	u := unit(t)
	if len(u["ExecReload"]) != 2 || u["ExecReload"][1] != "/bin/kill -HUP $MAINPID" {
		t.Fatalf("ExecReload=%q", u["ExecReload"])
	}
	check, run := strings.Fields(u["ExecReload"][0]), strings.Fields(u["ExecStart"][0])
	if check[0] != run[0] || check[len(check)-1] != run[len(run)-1] {
		t.Errorf("%q checks another file, or with another program, than %q runs", check, run)
	}
	file := filepath.Join(t.TempDir(), "topicast.yaml")
	check[len(check)-1] = file
	for _, tt := range []struct {
		yaml   string
		status int
		stderr string
	}{
		{oneRule, exitDone, ""},
		{strings.Replace(oneRule, "source: 127.0.0.1", "interface: nowhere0", 1), exitDone, ""},
		// A fault of this host, as an expired certificate is: the bridge takes the file.
		{strings.Replace(oneRule, "source: 127.0.0.1", "source: 127.255.255.255", 1), exitDone, ""},
		{"sned: []\n" + oneRule, exitFailed, `topicast: error: .*:1:1: sned: unknown key\nhint: .*\n`},
	} {
		if err := os.WriteFile(file, []byte(tt.yaml), 0o600); err != nil {
			t.Fatal(err)
		}
		status, stdout, stderr := topicast(t, check[1:]...)
		if status != tt.status || stdout != "" || !regexp.MustCompile("^"+tt.stderr+"$").MatchString(stderr) {
			t.Errorf("%s: exit status %d, want %d; %q, %q", tt.yaml, status, tt.status, stdout, stderr)
		}
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
	if err := os.WriteFile(file, []byte(strings.Replace(string(text), "/usr/local/bin/topicast", "/bin/sh", -1)), 0o600); err != nil {
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
