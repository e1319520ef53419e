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
	b.refused("r", m)
	f.Close()
	b.refused("r", m)
	text, err := os.ReadFile(path)
	if want := `"rule":"r","topic":"a/b","qos":1,"retain":true,"payload":"eA==","reason":"the broker closes the connection whenever`; err != nil || strings.Count(string(text), want) != 1 {
		t.Errorf("%s, %v", text, err)
	}
	if !strings.Contains(log.String(), "level=WARN") || !strings.Contains(log.String(), "is lost: the file of dead letters takes no more now") {
		t.Error(log.String())
	}
	(&Bridge{}).refused("r", m) // nobody keeps it
}
