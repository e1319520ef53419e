package send

import (
	"strings"

	"topicast/bridge/session"
)

// reply is where the publisher of a request wants its answer, as it says with MQTT 5: on this topic, in place of that
// of the rule, with this data.
type reply struct {
	topic string
	data  []byte // nil: none
}

// size is what it takes of the budgets, in bytes.
func (to *reply) size() int {
	if to == nil {
		return 0
	}
	return len(to.topic) + len(to.data)
}

// maxReplyData is how many bytes of correlation data a request may have: they wait with it.
const maxReplyData = 1 << 10

// replyTo is where the answers to a message go that a rule is to send; nil: where the rule says. It is the
// publisher who names the topic, and we who publish there: it must be none that a rule makes a request
// of, which would go round for ever, and none of the broker's own. Callers hold mu.
func (p *Path) replyTo(r *Rule, m *session.Message) *reply {
	if !r.ExpectsAnswers() {
		return nil
	}
	topic, data := m.Reply()
	why := ""
	switch {
	case topic == "":
		return nil
	case !session.ValidTopic(topic) || strings.HasPrefix(topic, "$"):
		why = "it is no topic name, or begins with $"
	case len(topic) > maxAnswerTopic || len(data) > maxReplyData:
		why = "topic and correlation data may have 1024 bytes each"
	case len(p.table.Lookup(topic, nil)) > 0:
		why = "a send rule takes what is published there"
	default:
		return &reply{topic, data}
	}
	if !r.replyRefused.Swap(true) {
		p.log.Warn("a request names a response topic that is not used: its answer goes where the rule says",
			"rule", r.Name, "topic", topic[:min(len(topic), maxAnswerTopic)], "why", why)
	}
	return nil
}
