package session

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/eclipse/paho.mqtt.golang/packets"
	"github.com/google/go-cmp/cmp"
)

// honest is a broker that keeps QoS 2 as section 4.3.3 asks, and that forgets to
// answer, answers late, twice or out of order, and drops connections. On every other
// connection it answers what it reads, and reads enough: a message that it answered on
// none of four in a row, as chance would have it at last, would be taken for one that
// it does not take.
type honest struct {
	connects int
	r        *rand.Rand
	held     map[uint16]bool // QoS 2, from PUBLISH to PUBREL
	got      map[string][]int
	dups     int
}

// serve serves one connection until it is dropped; calm: not at all.
func (h *honest) serve(p *peer, calm bool) {
	var late [][]byte
	h.connects++
	answers := calm || h.connects%2 == 0
	n := h.r.IntN(200)
	if answers {
		n += 50
	}
	for ; calm || n > 0; n-- {
		var cp packets.ControlPacket
		select {
		case cp = <-p.in:
		case <-time.After(3 * time.Second): // it waits for what was not answered
			if !calm {
				return
			}
			continue
		}
		var reply []byte
		switch cp := cp.(type) {
		case nil:
			return
		case *packets.PublishPacket:
			reply = frame(0x40, byte(cp.MessageID>>8), byte(cp.MessageID))
			if cp.Qos == 2 {
				reply[0] = 0x50
			}
			if cp.Qos != 2 || !h.held[cp.MessageID] {
				v, _ := strconv.Atoi(string(cp.Payload))
				if cp.Dup {
					h.dups++
				}
				h.got[cp.TopicName] = append(h.got[cp.TopicName], v)
			}
			h.held[cp.MessageID] = cp.Qos == 2
		case *packets.PubrelPacket:
			delete(h.held, cp.MessageID)
			reply = frame(0x70, byte(cp.MessageID>>8), byte(cp.MessageID))
		default:
			continue
		}
		if late = append(late, reply); !answers && h.r.IntN(3) == 0 {
			continue
		}
		if !calm && h.r.IntN(4) == 0 {
			h.r.Shuffle(len(late), func(i, j int) { late[i], late[j] = late[j], late[i] })
		}
		if h.r.IntN(10) == 0 {
			late = append(late, late[0])
		}
		if _, err := p.Write(slices.Concat(late...)); err != nil {
			return
		}
		late = nil
	}
}

// Whatever a broker does that keeps its session: QoS 1 arrives at least once, in
// order but for repetitions, and QoS 2 exactly once, in order.
func TestNothingIsLostNorReorderedOverManyConnections(t *testing.T) {
	for seed := range uint64(20) {
		synctest.Test(t, func(t *testing.T) {
			const n = 1000
			b := newPipeBroker(t)
			c := start(t, Options{URLs: []string{b.url()}, MaxInFlight: 16}, b.use)
			o := &teller{}
			var wg sync.WaitGroup
			for _, qos := range []byte{1, 2} {
				wg.Go(func() {
					r := rand.New(rand.NewPCG(seed, uint64(qos)))
					for i := 0; i < n; {
						var batch []Publication
						for range 1 + r.IntN(40) {
							if i < n {
								batch = append(batch, Publication{Topic: fmt.Append(nil, "q", qos), Payload: fmt.Append(nil, i), QoS: qos, Origin: o})
								i++
							}
						}
						c.PublishBatch(batch)
						time.Sleep(time.Duration(r.IntN(200)) * time.Millisecond)
					}
				})
			}
			h := &honest{r: rand.New(rand.NewPCG(seed, 9)), held: map[uint16]bool{}, got: map[string][]int{}}
			for connects := 0; o.count() < 2*n; connects++ {
				p := b.greet(connects > 0, 0)
				if connects < 30 {
					h.serve(p, false)
					_ = p.Close()
					continue
				}
				go func() {
					for o.count() < 2*n {
						time.Sleep(time.Second)
					}
					_ = p.Close()
				}()
				h.serve(p, true)
			}
			wg.Wait()
			c.stop()
			for _, line := range o.told() {
				if strings.HasPrefix(line, "lost") {
					t.Error(line)
				}
			}
			want := make([]int, n)
			for i := range want {
				want[i] = i
			}
			if !slices.Equal(want, h.got["q2"]) {
				t.Errorf("seed %d, QoS 2: %s", seed, cmp.Diff(want, h.got["q2"]))
			}
			var first []int
			for _, v := range h.got["q1"] {
				if v == len(first) {
					first = append(first, v)
				} else if v > len(first) {
					t.Fatalf("seed %d, QoS 1: %d before %d", seed, v, len(first))
				}
			}
			if len(first) != n {
				t.Errorf("seed %d, QoS 1: %d of %d arrived", seed, len(first), n)
			}
			if h.dups == 0 {
				t.Errorf("seed %d: nothing was written again", seed)
			}
		})
	}
}

func (o *teller) count() int {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.n
}
