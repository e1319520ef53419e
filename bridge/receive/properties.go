package receive

import (
	"strings"
	"time"

	"topicast/bridge/session"
	"topicast/mapping"
)

// What a message bears beside its payload, with MQTT 5: its content type, and where the datagram came
// from. The names and values are those of the envelope (payload: json). A rule that says nothing of it
// never comes here.

// propertiesSize is how many bytes they take at the most.
const propertiesSize = 512

// bears reports whether the messages of a rule have properties.
func bears(r *mapping.ReceiveRule) bool { return r.Metadata || r.ContentType != "" }

// appendProperties appends the properties of a message as they are written.
func (r *Rule) appendProperties(dst []byte, a *arrival) []byte {
	if r.ContentType != "" {
		dst = session.AppendContentType(dst, r.ContentType)
	}
	if !r.Metadata {
		return dst
	}
	var scratch [64]byte
	dst = session.AppendUserProperty(dst, "source", a.Source.AppendTo(scratch[:0]))
	to := "group"
	if !a.To.Addr().IsMulticast() {
		to = "destination"
	}
	dst = session.AppendUserProperty(dst, to, a.To.AppendTo(scratch[:0]))
	dst = session.AppendUserProperty(dst, "interface", append(scratch[:0], interfaceText(a.Interface)...))
	return session.AppendUserProperty(dst, "received_at", a.At.UTC().AppendFormat(scratch[:0], time.RFC3339Nano))
}

// interfaceText is the name as MQTT can write it: Linux takes any bytes for one.
func interfaceText(name string) string { return strings.ToValidUTF8(name, "\ufffd") }

// propertiesLost is why a rule is degraded whose messages go without their properties; "": they do not.
func (r *Rule) propertiesLost() string {
	if r.bears && r.path.plain.Load() && r.path.online.Load() {
		return "metadata and content_type are of MQTT 5, and the broker is spoken to in 3.1.1: messages go without them"
	}
	return ""
}
