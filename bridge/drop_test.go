package bridge

import (
	"bytes"
	"log/slog"
	"strings"
	"testing"

	"topicast/bridge/account"
	"topicast/bridge/multicast"
	"topicast/bridge/session"
	"topicast/internal/lab/fake"
	"topicast/mapping"
)

func TestTheSummaryTellsOfDropsAndOfWhatWasFilteredApart(t *testing.T) {
	for level, want := range map[slog.Level]string{
		slog.LevelInfo:  `level=WARN msg="dropped in the last minute" no_rule=1 bad_group=2` + "\n",
		slog.LevelDebug: `level=WARN msg="dropped in the last minute" no_rule=1 bad_group=2` + "\n" + `level=DEBUG msg="filtered in the last minute, as the configuration asks" retained=1` + "\n",
	} {
		var log bytes.Buffer
		logger := slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: level, ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
			if a.Key == slog.TimeKey {
				return slog.Attr{}
			}
			return a
		}}))
		b := newTestBridgeOf(t, &fake.Network{Present: []multicast.Interface{fake.Iso0}}, Options{QueueSize: fake.Plenty, Logger: logger}, []mapping.SendRule{fake.SendRule(t, "r", "t/{id}", "239.1.1.{id}:5000")}, nil)
		kept := fake.Message("t/1", "x", 1)
		kept.Retain = true
		b.send.Handle([]session.Message{fake.Message("t/300", "x", 1), fake.Message("t/300", "x", 1), fake.Message("u", "x", 1), fake.Message("t/1", "x", 1), kept})
		log.Reset()
		told := b.summarize([account.NumReasons]uint64{})
		if log.String() != want {
			t.Errorf("log.level %v:\n%s, want\n%s", level, log.String(), want)
		}
		log.Reset()
		if b.summarize(told); strings.Contains(log.String(), "minute") {
			t.Errorf("told again: %s", log.String())
		}
	}
}
