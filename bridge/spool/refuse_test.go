package spool

import (
	"errors"
	"fmt"
	"slices"
	"testing"
)

// What a caller refuses is told in its turn, and is nowhere.
func TestWhatIsRefusedIsToldInItsTurn(t *testing.T) {
	s, err := Open(Options{Dir: t.TempDir(), MaxSize: 1 << 20})
	if err != nil {
		t.Fatal(err)
	}
	q := s.Queue("q")
	told := make(chan string, 10)
	tell := func(what string) func(error) { return func(err error) { told <- fmt.Sprint(what, " ", err) } }
	q.Append(Record{Topic: []byte("t")}, tell("first"))
	q.Refuse(ErrFull, tell("second"))
	q.Append(Record{Topic: []byte("t")}, tell("third"))
	var got []string
	for range 3 {
		got = append(got, <-told)
	}
	if want := []string{"first <nil>", "second " + ErrFull.Error(), "third <nil>"}; !slices.Equal(got, want) || q.Len() != 2 {
		t.Errorf("told %q, %d are there", got, q.Len())
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	q.Refuse(ErrFull, func(err error) {
		if !errors.Is(err, ErrClosed) {
			t.Errorf("told %v of a spool that is closed", err)
		}
		told <- ""
	})
	<-told
	if got := s.Undecided(); got != 0 {
		t.Errorf("%d undecided", got)
	}
}
