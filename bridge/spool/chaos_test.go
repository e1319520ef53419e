package spool

import (
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

// chaosSeeds is how many lives the tests below live; SPOOL_SEEDS has them live more.
func chaosSeeds() uint64 {
	if n, err := strconv.ParseUint(os.Getenv("SPOOL_SEEDS"), 10, 64); err == nil {
		return n
	}
	return 8
}

// A chaosQueue is what a test knows of a queue.
type chaosQueue struct {
	*Queue
	mu   sync.Mutex
	next int          // the next number to append
	told map[int]bool // safe, or removed
	gone int          // numbers below that are removed
	lost int
}

func (q *chaosQueue) append(random *rand.Rand) {
	n := q.next
	payload := fmt.Sprint(n, " ", strings.Repeat("x", random.IntN(20_000)))
	if _, ok := q.Append(record(payload), func(err error) {
		q.mu.Lock()
		defer q.mu.Unlock()
		q.told[n] = err == nil
	}); ok {
		q.next++
	}
}

// take takes some from the front, which have to be the next ones.
func (q *chaosQueue) take(most int) (int, error) {
	dst := make([]Record, most)
	n, lost := q.Front(dst, 0)
	q.lost += lost.Damaged
	q.gone += lost.Damaged
	for i, r := range dst[:n] {
		if number, _, _ := strings.Cut(string(r.Payload), " "); number != fmt.Sprint(q.gone+i) {
			return 0, fmt.Errorf("%s came, want %d", number, q.gone+i)
		}
	}
	q.Remove(n)
	q.gone += n
	return n + lost.Damaged, nil
}

// someFault is one that goes on until it is over: some of what is done to files fails.
func someFault(random *rand.Rand) func(op, path string) error {
	why := []error{syscall.EIO, syscall.ENOSPC, syscall.EROFS, syscall.EACCES, syscall.EDQUOT, syscall.ENOENT, syscall.EMFILE}[random.IntN(7)]
	which := []string{"write", "sync", "open", "truncate", "rename", "remove", "stat", "list", "statfs", ""}[random.IntN(10)]
	where := []string{segmentPrefix + "0", segmentPrefix + "state", ""}[random.IntN(3)]
	often := []int{1, 1, 2, 5}[random.IntN(4)]
	asked := 0
	var mu sync.Mutex
	return func(op, path string) error {
		mu.Lock()
		defer mu.Unlock()
		asked++
		// A read that fails is a loss where the disk is there; an open that finds nothing, too.
		if op == "read" || op == "stat" && why == syscall.ENOENT || asked%often > 0 || which != "" && op != which || !strings.Contains(path, where) {
			return nil
		}
		return why
	}
}

// Whatever fails, for however long, but for a read: nothing that was taken is lost, nothing
// comes twice or in another order, and in the end the spool can be used.
func TestWhateverFailsNothingIsLost(t *testing.T) {
	for seed := range chaosSeeds() {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				random := rand.New(rand.NewPCG(seed, 7))
				disk, log := new(faults), &logs{}
				options := Options{Dir: t.TempDir() + "/spool", MaxSize: 64 << 20, files: disk.files(), Logger: log.logger()}
				s := open(t, options)
				defer func() { s.Close() }()
				var queues []*chaosQueue
				for i := range 3 {
					queues = append(queues, &chaosQueue{Queue: s.Queue(fmt.Sprint(i)), told: map[int]bool{}})
				}
				for range 150 {
					q := queues[random.IntN(len(queues))]
					switch random.IntN(8) {
					case 0:
						disk.are(someFault(random))
					case 1:
						disk.are(nil)
					case 2, 3:
						if _, err := q.take(1 + random.IntN(30)); err != nil {
							t.Fatal(err, log)
						}
					case 4:
						time.Sleep(time.Duration(random.IntN(5000)) * time.Millisecond)
					default:
						for range random.IntN(40) {
							q.append(random)
						}
					}
				}
				disk.are(nil)
				time.Sleep(10 * time.Second)
				synctest.Wait()
				if s.Err() != nil {
					t.Fatal(s.Err(), log)
				}
				restart := random.IntN(2) == 0
				if restart {
					closeNow(t, s)
					s = open(t, options)
				}
				for i, q := range queues {
					if q.Queue = s.Queue(fmt.Sprint(i)); q.Len() != q.next-q.gone {
						t.Errorf("queue %d has %d, want %d to %d\n%s", i, q.Len(), q.gone, q.next, log)
					}
					for q.Len() > 0 {
						if n, err := q.take(100); n == 0 || err != nil {
							t.Fatal(n, err, log)
						}
					}
					q.mu.Lock()
					for n := range q.next {
						if !q.told[n] {
							t.Errorf("queue %d: nobody was told that %d is safe", i, n)
						}
					}
					q.mu.Unlock()
					if q.lost > 0 || q.gone != q.next {
						t.Errorf("queue %d: lost %d, %d of %d came\n%s", i, q.lost, q.gone, q.next, log)
					}
				}
				if s.Len() != 0 || s.Bytes() != 0 {
					t.Errorf("%d records of %d bytes left", s.Len(), s.Bytes())
				}
			})
		})
	}
}

// A kill at any moment, also while something fails: what was said to be safe is there, in
// order, and what was removed last may come again.
func TestAKillAtAnyMomentLosesNothing(t *testing.T) {
	for seed := range chaosSeeds() {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			random := rand.New(rand.NewPCG(seed, 8))
			dir := t.TempDir() + "/spool"
			first, next := 0, 0 // what is there at least, if nothing comes again
			for range 6 {
				some, done := killAfter(int64(1 + random.IntN(150)))
				if random.IntN(2) == 0 {
					kill, fail := some.fault, someFault(random)
					some.fault = func(op, path string) error {
						if err := kill(op, path); err != nil {
							return err
						}
						if done.Load()%50 > 30 {
							return fail(op, path)
						}
						return nil
					}
				}
				s := open(t, Options{Dir: dir, MaxSize: 64 << 20, files: some, retry: time.Millisecond})
				q, safe := s.Queue("rule"), make(chan int, 10_000)
				read := -1
				for i := range 300 {
					if _, ok := q.Append(record(fmt.Sprint(next+i, strings.Repeat(" x", random.IntN(5000)))), func(err error) {
						if err == nil {
							safe <- next + i
						}
					}); !ok {
						break
					}
					if random.IntN(10) == 0 {
						dst := make([]Record, 1+random.IntN(20))
						n, lost := q.Front(dst, 0)
						if lost != (Lost{}) {
							break // it is killed, and reads nothing
						}
						for _, r := range dst[:n] {
							fmt.Sscan(string(r.Payload), &read)
						}
						q.Remove(n)
					}
				}
				closeNow(t, s)
				close(safe)
				most := next - 1
				for n := range safe {
					most = max(most, n)
				}
				log := &logs{}
				s = open(t, Options{Dir: dir, MaxSize: 64 << 20, Logger: log.logger()})
				got := make([]int, 0, 1000)
				// What was never said to be safe may count as lost.
				payloads, _ := takeDamaged(t, "after a kill", s.Queue("rule"))
				for _, payload := range payloads {
					var n int
					fmt.Sscan(payload, &n)
					got = append(got, n)
				}
				if first = max(first, read+1); first <= most && (len(got) == 0 || got[0] > first || got[len(got)-1] < most) {
					t.Fatalf("%d to %d were safe, of %v\n%s", first, most, got, log)
				}
				for i := range got {
					if i > 0 && got[i] != got[i-1]+1 {
						t.Fatalf("%d after %d", got[i], got[i-1])
					}
				}
				closeNow(t, s)
				next = max(most, append(got, most)[len(got)]) + 1
				if len(got) > 0 {
					next = max(next, got[len(got)-1]+1)
				}
				first = next
			}
		})
	}
}
