package send_test

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"topicast/bridge/multicast"
	"topicast/bridge/send"
	"topicast/bridge/session"
	"topicast/internal/lab/fake"
	"topicast/mapping"
)

// Forged answers cost what it costs to count them.
func TestForgedAnswersTakeNoMemory(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, _ := timing(t, rigOptions{}, devices(t), fake.SendRule(t, "search", "s/{id}", "239.255.255.250:1900", asking(t)))
		b.send.Handle([]session.Message{ask(7, "x"), fake.Message("s/1", "x", 1)})
		synctest.Wait()
		const forged = 50_000
		batch := make([]multicast.Datagram, multicast.MaxReceive)
		for i := range forged {
			batch[i%len(batch)] = multicast.Datagram{Source: netip.AddrPortFrom(netip.AddrFrom4([4]byte{172, 18, byte(i >> 8), byte(i)}), 1010), Payload: []byte("forged")}
			if i%len(batch) == len(batch)-1 {
				for _, s := range b.network.Sockets {
					s.Back <- slices.Clone(batch)
				}
			}
		}
		synctest.Wait()
		all := uint64(forged / len(batch) * len(batch))
		s := b.Status().Rules
		if s[0].Filtered["unasked"] != all || s[0].Answers != 0 || b.send.Asked() != 2 {
			t.Errorf("%+v, %d requests are out", s[0], b.send.Asked())
		}
		// To a group anybody may answer, up to a bound.
		if s[1].Answers != all || s[1].Drops["rate"]+s[1].Drops["queue_full"] != all-uint64(len(b.says(0))) || len(b.says(0)) > send.MaxAnswers || b.budget.Bytes() > fake.Plenty {
			t.Errorf("%+v, %d published", s[1], len(b.says(0)))
		}
	})
}

// lossy is a network on which devices answer with what they were asked, in a while, or one of the
// two datagrams is lost.
type lossy struct {
	*fake.Socket
	random *rand.Rand
}

func (l lossy) SendChecked(check *multicast.AddressCheck, batch []multicast.Datagram, failed func(int, error)) (int, error) {
	n, err := l.Socket.SendChecked(check, batch, failed)
	for _, d := range batch[:n] {
		if l.random.IntN(100) < 19 { // a tenth each way
			continue
		}
		from, answer, takes := d.To.String(), "re "+string(d.Payload), time.Duration(1+l.random.IntN(90))*time.Millisecond
		go func() {
			time.Sleep(takes)
			l.Say(from, answer)
		}()
	}
	return n, err
}

// Each of a thousand requests to fifty devices, on a network that loses a tenth, is answered or
// told to be not, and none has the answer of another.
func TestAThousandRequestsOnALossyNetwork(t *testing.T) {
	for _, with := range []struct {
		name  string
		dir   string
		tries uint8
	}{{"once", "", 1}, {"three times", "", 3}, {"with a spool", t.TempDir(), 2}} {
		t.Run(with.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				random := rand.New(rand.NewPCG(1, 2))
				o := rigOptions{QueueSize: fake.Plenty, InPlaceOf: func(s *fake.Socket) send.Sender { return lossy{s, random} }}
				if with.dir != "" {
					o.Spool.On = fake.OpenSpool(t, with.dir, 1<<24)
				}
				b := newRigOf(t, &fake.Network{Present: []multicast.Interface{fake.Iso0}}, o, []mapping.SendRule{devices(t, tries(with.tries))}, nil)
				for i := range 20 {
					var batch []session.Message
					for id := range 50 {
						batch = append(batch, ask(id+1, fmt.Sprintf("%d to %d", i, id+1)))
					}
					b.send.Handle(batch)
				}
				time.Sleep(10 * time.Minute)
				answered, none := make(map[string]int), 0
				for _, line := range b.says(0) {
					topic, payload, _ := strings.Cut(line, " ")
					switch id, isAnswer := strings.CutPrefix(topic, "answer/"); {
					case !isAnswer:
						none++
					case !strings.HasSuffix(payload, " to "+id):
						t.Errorf("%s has %q", topic, payload)
					default:
						answered[payload]++
					}
				}
				for payload, n := range answered {
					if n != 1 {
						t.Errorf("%q came %d times", payload, n)
					}
				}
				s := b.Status().Rules[0]
				if len(answered)+none != 1000 || s.Answered != uint64(len(answered)) || s.Unanswered != uint64(none) || s.Drops != nil {
					t.Errorf("%d answered, %d not; %+v", len(answered), none, s)
				}
				if least := 1000 - 1000/5 - 60; len(answered) < least || with.tries == 3 && none > 30 {
					t.Errorf("%d answered, %d not", len(answered), none)
				}
				if b.send.Asked() != 0 {
					t.Errorf("%d are out", b.send.Asked())
				}
				b.said.Acknowledge()
				b.settled("in the end", t)
			})
		})
	}
}

// What is remembered of requests is bounded; others wait.
func TestRequestsThatAreOutAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, left := timing(t, rigOptions{QueueSize: 1 << 26}, fake.SendRule(t, "ask", "q/{a}/{id}", "239.1.1.1:5000", fake.ToHost(t, "172.17.{a}.{id}:1010"), asking(t, tries(2))))
		large := strings.Repeat("x", 60_000)
		for i := range 500 {
			b.send.Handle([]session.Message{fake.Message(fmt.Sprintf("q/%d/%d", i/200, i%200), large, 1)})
		}
		time.Sleep(10 * time.Millisecond)
		synctest.Wait()
		if out := b.send.Asked(); out < 100 || out*60_000 > send.MaxAskedBytes+send.DrainBatch*60_000 {
			t.Errorf("%d are out", out)
		}
		time.Sleep(time.Minute)
		synctest.Wait()
		if s := b.Status().Rules[0]; s.Unanswered != 500 || len(left.lines()) != 1000 {
			t.Errorf("%d left, %d have no answer, %v", len(left.lines()), s.Unanswered, s.Drops)
		}
	})
}
