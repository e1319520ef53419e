package bridge

import (
	"bytes"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"topicast/bridge/deadletter"
	"topicast/bridge/session"
)

func TestWhatTheBrokerDoesNotTakeIsInTheFileOfDeadLetters(t *testing.T) {
	var log bytes.Buffer
	path := filepath.Join(t.TempDir(), "letters")
	f := deadletter.Open(path, slog.Default())
	b := &Bridge{options: Options{DeadLetters: f}, log: slog.New(slog.NewTextHandler(&log, nil))}
	m := &session.Publication{Topic: []byte("a/b"), Payload: []byte("x"), QoS: 1, Retain: true}
	kept := 0
	b.refused("r", m, session.ErrRefused, nil)
	b.refused("r", m, session.ErrTopicRefused, func() { kept++ })
	f.Close()
	for range 3 {
		b.refused("r", m, session.ErrTopicRefused, func() { kept++ })
	}
	if kept != 4 {
		t.Errorf("%d of 4 are let go", kept)
	}
	text, err := os.ReadFile(path)
	if want := `"rule":"r","topic":"a/b","qos":1,"retain":true,"payload":"eA==","reason":"the broker closes the connection whenever`; err != nil || strings.Count(string(text), want) != 1 {
		t.Errorf("%s, %v", text, err)
	}
	if !strings.Contains(log.String(), "level=WARN") || !strings.Contains(log.String(), "is lost: the file of dead letters takes no more now") {
		t.Error(log.String())
	}
	if !strings.Contains(string(text), `"reason":"the broker has closed connections over messages on this topic`) || strings.Count(log.String(), "\n") != 2 {
		t.Errorf("%s\n%s", text, log.String())
	}
	(&Bridge{}).refused("r", m, session.ErrRefused, func() { kept++ }) // nobody keeps it
	if kept != 5 {
		t.Error("what nobody keeps is waited for")
	}
}
