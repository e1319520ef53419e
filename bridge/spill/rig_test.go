package spill_test

import (
	"io"
	"log/slog"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"topicast/bridge/account"
	"topicast/bridge/spill"
	"topicast/bridge/spool"
	"topicast/internal/lab/fake"
)

// rig is one direction of a process.
type rig struct {
	*spill.Queues
	disk   *spool.Spool
	gone   account.Removed[totals, *totals]
	rules  []spill.Rule
	queues []*spill.Queue
	woken  chan string
}

type totals struct{ account.Counters }

func open(t *testing.T, dir string, maxAge time.Duration) *rig {
	t.Helper()
	r := &rig{disk: fake.OpenSpool(t, dir, 1<<20), woken: make(chan string, 100)}
	r.Queues = spill.New(spill.Options{
		Spool: spill.Share(r.disk), Log: slog.New(slog.NewTextHandler(io.Discard, nil)), MaxAge: maxAge, Losses: r.gone.Losses,
		Kinds: []string{spill.Older, spill.Received},
	})
	return r
}

// by is a rule by one of its interfaces.
func by(common, on string, is uint64) spill.Rule {
	r := rule(common+"@"+on, is)
	r.Common = common
	return r
}

// rule is one that is another one where is differs, whatever its name.
func rule(name string, is uint64) spill.Rule {
	return spill.Rule{Name: name, Is: is, Losses: &account.Counters{Log: slog.New(slog.DiscardHandler)}}
}

func latest(r spill.Rule) spill.Rule {
	r.Latest = true
	return r
}

// assign puts rules to work, as a direction does at a reload.
func (r *rig) assign(rules ...spill.Rule) []*spill.Queue {
	queues := make([]*spill.Queue, len(rules))
	for i, heir := range spill.Heirs(r.rules, rules) {
		if heir >= 0 && (queues[heir] == nil || r.rules[i].Is == rules[heir].Is) {
			queues[heir] = r.queues[i]
		}
	}
	for i := range queues {
		if queues[i] == nil {
			queues[i] = r.New(func() { r.woken <- rules[i].Name })
		}
	}
	r.rules, r.queues = rules, queues
	r.Assign(rules, queues)
	return queues
}

// put appends messages, and waits until they are on disk.
func put(t *testing.T, q *spill.Queue, topic string, payloads ...string) {
	t.Helper()
	done := make(chan error, len(payloads))
	for _, payload := range payloads {
		if !q.Append(spool.Record{Topic: []byte(topic), Payload: []byte(payload)}, func(err error) { done <- err }) {
			t.Fatal("not taken")
		}
	}
	for range payloads {
		if err := <-done; err != nil {
			t.Fatal(err)
		}
	}
}

// take passes on all that is there.
func take(q *spill.Queue) (payloads []string) {
	var into [3]spool.Record
	for {
		front := q.Front(into[:])
		if len(front.Records)+front.Lost == 0 {
			return payloads
		}
		for i := range front.Records {
			if !q.Superseded(&front.Records[i]) {
				payloads = append(payloads, string(front.Records[i].Payload))
			}
		}
		front.Remove(len(front.Records))
	}
}

func want(t *testing.T, q *spill.Queue, payloads ...string) {
	t.Helper()
	if diff := cmp.Diff(payloads, take(q)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}
