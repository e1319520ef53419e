package receive

import (
	"testing"

	"topicast/mapping"
)

func TestTheStatesOfTopicsAreBounded(t *testing.T) {
	p := new(Path)
	r := &Rule{ReceiveRule: &mapping.ReceiveRule{}, path: p}
	for i := range maxTopics + 10 {
		r.topicFor([]byte{byte(i), byte(i >> 8), byte(i >> 16)})
	}
	if len(p.states) > maxTopics {
		t.Errorf("%d states", len(p.states))
	}
	r.releaseTopics()
	used := 0
	for _, s := range p.states {
		used += s.users
	}
	if used != 0 {
		t.Errorf("%d users of states when no rule is left", used)
	}
}
