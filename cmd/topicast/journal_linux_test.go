package main

import (
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"topicast/configs"
)

// What goes to the journal says how urgent it is, and leaves the time to the journal;
// what goes elsewhere is as ever.
func TestTheJournalIsToldThePriorityOfEachLine(t *testing.T) {
	for _, connected := range []bool{true, false} {
		file, err := os.Create(filepath.Join(t.TempDir(), "stderr"))
		if err != nil {
			t.Fatal(err)
		}
		defer file.Close()
		t.Setenv("JOURNAL_STREAM", "1:1")
		if connected {
			t.Setenv("JOURNAL_STREAM", deviceAndInode(file))
		}
		w := forJournal(file)
		level := new(slog.LevelVar)
		log := newLogger(w, configs.Log{Level: slog.LevelDebug, Format: "text"}, level)
		log.Debug("d")
		log.Info("i", "two", "a\nb")
		log.With("rule", "r").WithGroup("g").Warn("w", "time", "kept")
		log.Error("e", "time", "kept")
		newLogger(w, configs.Log{Format: configs.FormatJSON}, level).Warn("j")
		printError(w, withHint(os.ErrNotExist, "look"))
		printWarning(w, "careful,\nit goes on")
		got, err := os.ReadFile(file.Name())
		if err != nil {
			t.Fatal(err)
		}
		text := regexp.MustCompile(`time=\S+Z |time=\S+[+-]\d\d:\d\d |"time":"[^"]+",`).ReplaceAllString(string(got), "TIME ")
		want := "<7>level=DEBUG msg=d\n<6>level=INFO msg=i two=\"a\\nb\"\n<4>level=WARN msg=w rule=r g.time=kept\n<3>level=ERROR msg=e time=kept\n" +
			"<4>{\"level\":\"WARN\",\"msg\":\"j\"}\n<3>topicast: error: file does not exist\n<6>hint: look\n<4>topicast: warning: careful,\n<4>it goes on\n"
		if !connected {
			want = regexp.MustCompile(`(?m)^<\d>`).ReplaceAllString(want, "")
			want = regexp.MustCompile(`(?m)^level`).ReplaceAllString(want, "TIME level")
			want = strings.Replace(want, `{"level"`, `{TIME "level"`, 1)
		}
		if text != want {
			t.Errorf("connected: %v\n%s\nwant\n%s", connected, text, want)
		}
	}
}

// The whole program: stderr is the socket that JOURNAL_STREAM names.
func TestTheProgramKnowsTheJournal(t *testing.T) {
	binary, err := topicastBinary()
	if err != nil {
		t.Fatal(err)
	}
	file, err := os.Create(filepath.Join(t.TempDir(), "stderr"))
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	c := exec.Command(binary, "run", "--config", filepath.Join(t.TempDir(), "nothing.yaml"))
	c.Stderr = file
	c.Env = append(os.Environ(), "JOURNAL_STREAM="+deviceAndInode(file))
	_ = c.Run() // it fails: there is no such file
	got, err := os.ReadFile(file.Name())
	if err != nil {
		t.Fatal(err)
	}
	if !strings.HasPrefix(string(got), "<3>topicast: error: ") {
		t.Errorf("it says %q", got)
	}
}
