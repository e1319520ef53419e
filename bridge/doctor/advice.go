package doctor

import (
	"fmt"
	"strings"

	"topicast/bridge/account"
	"topicast/mapping"
)

// What is said to be done, so that it can be pasted, or done with the binary alone.

// remedies are for losses that no check has a command for.
var remedies = map[account.Reason]string{
	account.ReasonBadGroup:    "topicast explain TOPIC shows which part is out of range, --payload DATA where fields of it have a part; change group, or narrow filter",
	account.ReasonBadHost:     "topicast explain TOPIC shows which part is wrong; change host, or narrow filter",
	account.ReasonField:       "look at what arrives: topicast listen GROUP:PORT; a when such as size > 20 or has(json:/id) leaves out what is of another kind",
	account.ReasonBadPayload:  "publish what payload expects, or change payload, counter or answer.match; the text has the place",
	account.ReasonRate:        "a higher rate, or when_over: wait or latest in the rule",
	account.ReasonPending:     "mend why the rule is pending; qos: 1 and on_down: spool in the rule let messages wait for it",
	account.ReasonNoBuffer:    "tc -s qdisc show shows where the interface has no room: a larger limit and burst there, or a rate in the rule",
	account.ReasonRefused:     "what the error says: journalctl -u topicast has it with the place",
	account.ReasonBadTopic:    "topicast explain GROUP:PORT shows the topic, --payload DATA where fields of it have a part; change topic",
	account.ReasonOffline:     "qos: 1 in the rule, and spool.dir, where it matters",
	account.ReasonRefreshFull: "refresh and repeat in fewer rules, or shorter datagrams",
	account.ReasonExpired:     "topicast status shows what waits, and why; a larger max_age in the rule",
	account.ReasonFlushed:     "nothing: topicast flush did it, and the log says who",
}

// onWire is a filter as MQTT has it, without the names of captures.
func onWire(text string) string {
	if f, err := mapping.ParseFilter(text); err == nil {
		return f.MQTT()
	}
	return text
}

// published is the filter of all topics that a rule publishes on: a level that varies is a +.
func published(topic string) string {
	var b strings.Builder
	depth, from, varies := 0, 0, false
	level := func(to int) {
		if varies {
			b.WriteByte('+')
		} else {
			b.WriteString(topic[from:to])
		}
	}
	for i := range len(topic) {
		switch topic[i] {
		case '{':
			depth, varies = depth+1, true
		case '}':
			depth--
		case '/':
			if depth > 0 {
				continue // of a pointer: {json:/id}
			}
			level(i)
			b.WriteByte('/')
			from, varies = i+1, false
		}
	}
	level(len(topic))
	return b.String()
}

// refusal is the rule that may have the kernel refuse what leaves (EPERM), and what lets it through.
func (s *Subject) refusal(h *Snapshot) (fix string, evidence []string) {
	if h.Rules == nil {
		return "allow it in the output chain that refuses it: nft list ruleset as root shows which", nil
	}
	if v, p, stopped := s.stopped(h); stopped {
		return v.Insertion(p), []string{v.String()}
	}
	return "allow it where it is refused: nft list ruleset has no rule that does; iptables-legacy -S and bpftool cgroup tree list what else can", nil
}

// listening is the command that shows what comes.
func (s *Subject) listening() string {
	if s.To.Addr().IsUnspecified() {
		return fmt.Sprintf("tcpdump -ni %s udp port %d", s.On.Name, s.To.Port())
	}
	return fmt.Sprintf("topicast listen %s --interface %s", s.To, s.On.Name)
}
