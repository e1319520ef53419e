package main

import (
	"log/slog"
	"runtime/debug"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"topicast/configs"
)

func TestTheSessionIsAsTheSectionBrokerSays(t *testing.T) {
	b := configs.Broker{
		URLs: configs.URLs{"mqtt://192.0.2.1:1883"}, ClientID: "gateway-7", Username: "user", KeepAlive: 7 * time.Second,
		Session: configs.SessionClean, StatusTopic: "status", MaxInFlight: 77, MaxRate: 90, Aliases: true,
	}
	o := sessionOptions(b, nil)
	if len(o.URLs) != 1 || o.URLs[0] != b.URLs[0] || o.ClientID != b.ClientID || o.Username != b.Username || o.KeepAlive != b.KeepAlive ||
		!o.Clean || o.Status == nil || o.Status.Topic != b.StatusTopic || o.MaxInFlight != b.MaxInFlight || o.MaxRate != b.MaxRate || !o.TopicAliases || o.Password == nil || o.TLS == nil {
		t.Errorf("%+v", o)
	}
	b.Session, b.StatusTopic = configs.SessionPersistent, ""
	if o := sessionOptions(b, nil); o.Clean || o.Status != nil {
		t.Errorf("%+v", o)
	}
}

func TestGarbageIsCollectedAsEverOnceTheStartIsOver(t *testing.T) {
	t.Setenv("GOGC", "100")
	const usual = 77
	defer debug.SetGCPercent(debug.SetGCPercent(usual))
	percent := func() int {
		p := debug.SetGCPercent(usual)
		debug.SetGCPercent(p)
		return p
	}
	synctest.Test(t, func(t *testing.T) {
		started, stop := deferGC()
		if got := percent(); got <= usual {
			t.Errorf("%d%% during the start", got)
		}
		<-started
		if got := percent(); got != usual {
			t.Errorf("%d%% after it", got)
		}
		stop()

		_, stop = deferGC()
		stop()
		if got := percent(); got != usual {
			t.Errorf("%d%% after a start that failed", got)
		}
		time.Sleep(2 * startTime) // nothing comes of it later
		synctest.Wait()
	})
}

func TestTheLevelOfTheLogCanBeChangedWhileItRuns(t *testing.T) {
	for _, format := range []configs.Format{configs.FormatText, configs.FormatJSON} {
		var out recorder
		level := new(slog.LevelVar)
		log := newLogger(&out, configs.Log{Level: slog.LevelWarn, Format: format}, level)
		log.Info("early")
		level.Set(slog.LevelInfo)
		log.Info("late")
		if got := out.String(); strings.Contains(got, "early") || !strings.Contains(got, "late") {
			t.Errorf("%s: %s", format, got)
		}
	}
}

// On a single core a look at interfaces and routes would put the first subscription off.
func TestWhatIsWrongWithThisHostIsSaidOnceTheStartIsOver(t *testing.T) {
	r := newReloadTest(t, "send:\n  - {filter: a, group: \"239.1.2.3:5000\", interface: lp}\n")
	synctest.Test(t, func(t *testing.T) {
		started := make(chan struct{})
		go sayAfterStart(t.Context(), started, r.started, true, r.log)
		synctest.Wait()
		if got := r.out.String(); got != "" {
			t.Errorf("said during the start: %s", got)
		}
		close(started)
		synctest.Wait()
		r.out.has(t, `send\[0\]\.interface: no interface has this name; did you mean lo\?`)
	})
}
