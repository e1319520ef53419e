package web

import (
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"topicast/bridge"
)

// One answer is made at a time, and all who asked while another was being made share one.
// Between two there is a pause as long as the making took.
func TestAnswersAreMadeOneAtATimeAndShared(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newAnswers()
		var made, atOnce atomic.Int32
		ask := func(key string) *answer {
			mine, err := a.get(t.Context(), key, func(w io.Writer) error {
				if atOnce.Add(1) > 1 {
					t.Error("two are made at once")
				}
				defer atOnce.Add(-1)
				made.Add(1)
				time.Sleep(time.Second)
				_, err := io.WriteString(w, key)
				return err
			})
			if err != nil {
				t.Error(err)
			}
			return mine
		}
		began := time.Now()
		var asking sync.WaitGroup
		asking.Go(func() { ask("status") })
		synctest.Wait() // it is being made
		for range 50 {
			asking.Go(func() { ask("status") })
		}
		asking.Go(func() {
			w := httptest.NewRecorder()
			ask("metrics").send(w, httptest.NewRequest("GET", "/metrics", nil))
			if w.Body.String() != "metrics" {
				t.Errorf("got %q", w.Body)
			}
		})
		asking.Wait()
		if made.Load() != 3 {
			t.Errorf("%d were made: want the first, one that 50 share, and another", made.Load())
		}
		if took := time.Since(began); took != 5*time.Second {
			t.Errorf("three took %v, want a second each, and as long in between", took)
		}
		time.Sleep(time.Minute) // gives the last turn back
	})
}

// Who goes away while he waits leaves nothing behind, and an answer that could not be made
// keeps nobody from the next.
func TestAnswersOutliveWhoeverAsked(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newAnswers()
		a.turn <- struct{}{}
		ctx, leave := context.WithCancel(t.Context())
		leave()
		if _, err := a.get(ctx, "status", nil); err == nil || len(a.next) != 0 {
			t.Errorf("%v, and %d are left", err, len(a.next))
		}
		<-a.turn
		func() {
			defer func() { recover() }()
			a.get(t.Context(), "status", func(io.Writer) error { panic("broken") })
		}()
		synctest.Wait()
		time.Sleep(time.Second)
		if got, err := a.get(t.Context(), "status", func(io.Writer) error { return nil }); err != nil || got.tag == "" {
			t.Errorf("after one that broke: %+v, %v", got, err)
		}
		time.Sleep(time.Second)
	})
}

// counted counts how often it is asked whether it is ready.
type counted struct {
	fake
	asked *atomic.Int32
}

func (c counted) Readiness() bridge.Readiness {
	c.asked.Add(1)
	time.Sleep(time.Second)
	return c.fake.Readiness()
}

// So are those of /readyz, which wait for no long one.
func TestReadinessIsFoundOutOnceForAllWhoAsk(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var asked atomic.Int32
		handler := Handler(counted{newFake(busy), &asked})
		var asking sync.WaitGroup
		for range 50 {
			asking.Go(func() {
				w := httptest.NewRecorder()
				handler.ServeHTTP(w, httptest.NewRequest("GET", "/readyz", nil))
				if w.Code != http.StatusServiceUnavailable || !strings.HasPrefix(w.Body.String(), "not ready\nbroker: ") {
					t.Errorf("%d %q", w.Code, w.Body)
				}
			})
		}
		asking.Wait()
		if asked.Load() > 2 {
			t.Errorf("asked %d times", asked.Load())
		}
		time.Sleep(time.Minute) // gives the last turn back
	})
}
