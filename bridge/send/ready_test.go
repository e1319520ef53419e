package send_test

import (
	"testing"
	"testing/synctest"
	"time"

	"topicast/bridge/session"
	"topicast/internal/lab/fake"
	"topicast/mapping"
)

// What a message is held back for is named as what it is: who looks for why the broker sends no more goes by it.
func TestWhatAMessageWaitsForIsNamed(t *testing.T) {
	for name, tt := range map[string]struct {
		rule mapping.SendRule
		want string
	}{
		"rate":   {fake.SendRule(t, "r", "q/{id}", "239.1.1.{id}:5000", rate("1/m", mapping.OverWait)), "its target gets no more than 1/m"},
		"answer": {devices(t, func(a *mapping.Answer) { a.Within = time.Minute }), "what was sent to 172.17.9.7:1010 before has no answer yet"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b, _ := timing(t, rigOptions{}, tt.rule)
				b.send.Handle([]session.Message{ask(7, "1"), ask(7, "2")})
				time.Sleep(2 * time.Second) // the watch has looked
				b.send.ExpireOld()
				oldest, _, n := b.send.Blockers()
				if n != 1 || oldest.Why != tt.want {
					t.Errorf("%d bindings, %q; want one, %q", n, oldest.Why, tt.want)
				}
			})
		})
	}
}
