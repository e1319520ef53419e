package session

import (
	"bytes"
	"math/rand/v2"
	"testing"
)

// A queuedMessage keeps its frame while others come and go around it, whose memory is used
// again; and the memory does not grow with how many have gone through.
func TestTheRingKeepsEachFrameUntilItGoes(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	sizes := []int{0, 10, 200, 5000, maxFrame, slabSize - 20, slabSize, 3 * slabSize}
	r := newRing(qos1IDs)
	var want [][]byte // the frames in it
	for step := range 10_000 {
		if random.IntN(len(want)+1) < 100+300*(step/2500%2) {
			p := &Publication{Topic: []byte("t"), Payload: bytes.Repeat([]byte{byte(step)}, sizes[random.IntN(len(sizes))]), QoS: 1}
			want = append(want, appendPublish(nil, p, qos1IDs.of(r.tail), new(form)))
			m := r.message(p, new(form))
			r.push(&m)
			continue
		}
		for range 1 + random.IntN(len(want)) {
			if got := r.at(r.head).frame; !bytes.Equal(got, want[0]) {
				t.Fatalf("step %d: the frame of %d bytes at the head has changed: % x…, want % x…", step, len(want[0]), got[:min(8, len(got))], want[0][:8])
			}
			want = want[1:]
			r.pop()
		}
	}
	if len(r.free) > maxFree {
		t.Errorf("%d empty slabs are kept, want %d at most", len(r.free), maxFree)
	}
	for range want {
		r.pop()
	}
	p := &Publication{Topic: []byte("t"), Payload: make([]byte, 1000), QoS: 1}
	if n := testing.AllocsPerRun(10_000, func() { m := r.message(p, new(form)); r.push(&m); r.pop() }); n != 0 {
		t.Errorf("%v allocations for each publication, want 0", n)
	}
}
