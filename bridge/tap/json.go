package tap

import (
	"encoding/base64"
	"encoding/json"
	"net/netip"
	"strconv"
	"time"
)

// AppendJSON appends what json.Marshal makes of the event, but for what it escapes in texts: a
// watcher of 100,000 events a second is to leave the processor to the stream.
func (e *Event) AppendJSON(to []byte) []byte {
	to = append(to, `{"time":"`...)
	to = e.Time.AppendFormat(to, time.RFC3339Nano)
	to = append(to, '"')
	to = appendText(to, "direction", string(e.Direction), true)
	to = appendText(to, "decision", string(e.Decision), true)
	to = appendText(to, "rule", e.Rule, false)
	to = appendText(to, "topic", e.Topic, false)
	to = appendAddress(to, "to", e.To)
	to = appendAddress(to, "source", e.Source)
	to = appendText(to, "interface", e.Interface, false)
	to = appendNumber(to, "bytes", uint64(e.Bytes), true)
	to = appendNumber(to, "latency_ns", uint64(max(e.Latency, 0)), false)
	to = appendText(to, "reason", e.Reason, false)
	to = appendText(to, "detail", e.Detail, false)
	to = appendNumber(to, "count", e.Count, false)
	if len(e.Payload) > 0 {
		to = append(to, `,"payload":"`...)
		to = base64.StdEncoding.AppendEncode(to, e.Payload)
		to = append(to, '"')
	}
	to = appendNumber(to, "ttl", uint64(e.TTL), false)
	to = appendNumber(to, "datagram", e.Datagram, false)
	to = appendText(to, "answer_topic", e.AnswerTopic, false)
	return append(to, '}')
}

func appendText(to []byte, name, text string, always bool) []byte {
	if text == "" && !always {
		return to
	}
	to = append(append(append(to, ',', '"'), name...), '"', ':')
	for i := range len(text) {
		if c := text[i]; c < ' ' || c > '~' || c == '"' || c == '\\' {
			quoted, _ := json.Marshal(text) // a string cannot fail
			return append(to, quoted...)
		}
	}
	return append(append(append(to, '"'), text...), '"')
}

func appendNumber(to []byte, name string, n uint64, always bool) []byte {
	if n == 0 && !always {
		return to
	}
	to = append(append(append(to, ',', '"'), name...), '"', ':')
	return strconv.AppendUint(to, n, 10)
}

func appendAddress(to []byte, name string, a netip.AddrPort) []byte {
	if a == (netip.AddrPort{}) {
		return to
	}
	if a.Addr().Zone() != "" { // which may have anything in it
		return appendText(to, name, a.String(), true)
	}
	to = append(append(append(to, ',', '"'), name...), '"', ':', '"')
	return append(a.AppendTo(to), '"')
}
