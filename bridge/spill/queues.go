package spill

import (
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"

	"topicast/bridge/account"
	"topicast/bridge/spool"
)

// What the pieces of a rule are for. They are read in the order in which Options.Kinds has
// them.
const (
	Sent     = "sent"     // messages for the network
	Older    = "older"    // messages for the broker that the session of an earlier process had
	Received = "received" // messages for the broker
)

// Options say which queues they are, and what becomes of those without a rule.
type Options struct {
	Spool  *Spool
	Log    *slog.Logger
	Kinds  []string      // of the direction; what is appended is of the last
	MaxAge time.Duration // how long messages without a rule are kept; 0: no limit
	// Losses is where it is counted what is lost of a rule that is gone.
	Losses func(rule string) *account.Counters
}

// Queues are what the rules of one direction have in the spool.
type Queues struct {
	o     Options
	start int64 // tells this process from others

	mu     sync.Mutex // held for moments; no other lock but the spool's is taken under it
	pieces map[string]*piece
	rules  []Rule
	queues []*Queue
	unique int // how many names were made unique
	known  int // topics whose latest is known, of all queues
	most   int // how many may be
}

// New are queues without rules; Assign gives them some.
func New(o Options) *Queues {
	return &Queues{o: o, start: time.Now().UnixNano(), pieces: make(map[string]*piece), most: maxLatest}
}

// Spool is what they are in.
func (s *Queues) Spool() *Spool { return s.o.Spool }

// New is a queue for a rule that Assign puts to work. wake is called when the disk has
// something for it that was appended to another queue, of the rule that this one was before.
func (s *Queues) New(wake func()) *Queue { return &Queue{of: s, wake: wake} }

// Assign puts rules to work, each with its queue. From here on each has what waits of the
// rule that it was before (Heirs). It is called with no batch of new messages under way.
func (s *Queues) Assign(rules []Rule, queues []*Queue) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, q := range s.queues {
		q.gone = true
	}
	for _, q := range queues {
		q.gone = false
	}
	for _, q := range s.queues {
		if q.gone {
			q.release()
		}
	}
	s.o.Spool.rules.Add(int64(len(rules) - len(s.rules)))
	s.rules, s.queues = rules, queues
	for i, q := range queues {
		if q.rule.Latest != rules[i].Latest {
			q.forgetLatest()
		}
		q.same = q.rule.Is == rules[i].Is
		q.rule, q.own = rules[i], nil
	}
	s.find()
}

// Find gives the rules what is theirs and has come to be on disk since Assign. It reports
// whether there was anything.
func (s *Queues) Find() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.find()
}

// FindAnew is Find after the spool has come into use: it may be another file.
func (s *Queues) FindAnew() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, q := range s.queues {
		q.latest.all = false
	}
	s.find()
}

// find does the work of Find. Callers hold mu.
func (s *Queues) find() (any bool) {
	lone, labels := s.lone()
	changed := map[*Queue]bool{}
	for i, heir := range heirs(labels, s.rules, func(i int) bool { return s.queues[i].same }) {
		if heir < 0 {
			continue
		}
		p, q := lone[i], s.queues[heir]
		p.of.Store(q)
		q.pieces, q.own = append(q.pieces, p), nil
		q.forgetLatest()
		changed[q] = true
	}
	for q := range changed {
		q.sort()
	}
	return len(changed) > 0
}

// lone are the pieces with messages that nobody reads, and of which rules they were. Callers
// hold mu.
func (s *Queues) lone() (lone []*piece, of []Rule) {
	for name, p := range s.pieces {
		switch q := p.of.Load(); {
		case p.Len() > 0:
		case q == nil: // also what Queue.head left
			delete(s.pieces, name)
		case q.gone && q.beside == p:
			q.beside = nil
			delete(s.pieces, name)
		}
	}
	for _, name := range s.o.Spool.Names() {
		l := parseLabel(name)
		if !slices.Contains(s.o.Kinds, l.kind) {
			continue
		}
		if p := s.piece(name, l); p.of.Load() == nil {
			lone, of = append(lone, p), append(of, p.owner)
		}
	}
	return lone, of
}

// piece is the one of a name, made if it is not known. Callers hold mu.
func (s *Queues) piece(name string, l label) *piece {
	p := s.pieces[name]
	if p == nil {
		p = &piece{Queue: s.o.Spool.Queue(name), label: l, owner: Rule{Name: l.rule, Is: l.is}}
		s.pieces[name] = p
	}
	return p
}

// uniqueLabel makes a label one that no piece has, in this process or in others. Callers hold
// mu.
func (s *Queues) uniqueLabel(l label) label {
	s.unique++
	l.unique = fmt.Sprintf("%x.%d", s.start, s.unique)
	return l
}

// Unused are the rules that have messages on disk and are not there, or do not use the spool
// now, and how many.
func (s *Queues) Unused() map[string]int {
	s.mu.Lock()
	defer s.mu.Unlock()
	unused := map[string]int{}
	lone, of := s.lone()
	for i, p := range lone {
		unused[of[i].Name] += p.Len()
	}
	return unused
}

// LogUnused logs what is on disk that no rule uses.
func (s *Queues) LogUnused() {
	unused := s.Unused()
	for _, rule := range slices.Sorted(maps.Keys(unused)) {
		s.o.Log.Warn("messages in the spool belong to a rule that the configuration has no more, that does not use the spool now, or whose interface is not there; they are kept until they are too old",
			"rule", rule, "messages", unused[rule], "max_age", s.o.MaxAge)
	}
}

// ExpireUnused drops what is too old of what no rule uses.
func (s *Queues) ExpireUnused() {
	s.mu.Lock()
	lone, of := s.lone()
	s.mu.Unlock()
	for i, p := range lone {
		rule, lost := of[i].Name, p.expire(s.o.MaxAge)
		if lost == (spool.Lost{}) {
			continue
		}
		losses := s.o.Losses(rule)
		losses.CountMany(rule, account.ReasonExpired, lost.Expired)
		losses.CountMany(rule, account.ReasonSpoolFailed, lost.Damaged)
		s.o.Log.Warn("messages of a rule that is gone are dropped from the spool: they are too old, or damaged",
			"rule", rule, "too_old", lost.Expired, "damaged", lost.Damaged)
	}
}

// expire drops what is too old at the front, unless somebody reads there: he does it.
func (p *piece) expire(maxAge time.Duration) (lost spool.Lost) {
	if p.reading.TryLock() {
		defer p.reading.Unlock()
		var first [1]spool.Record
		_, lost = p.Front(first[:], maxAge)
	}
	return lost
}
