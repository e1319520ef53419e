package session

import "fmt"

// ReasonCode is a return code of MQTT 3.1.1 or a reason code of MQTT 5, section 2.4. Those of
// 3.1.1, which are below 0x80 also where they refuse, are given as those of MQTT 5 that say the
// same.
type ReasonCode byte

// refuses reports whether a code is one of refusal.
func (c ReasonCode) refuses() bool { return c >= 0x80 }

const (
	reasonNoSubscribers   ReasonCode = 0x10 // no matching subscribers, of a PUBACK or PUBREC
	reasonUnspecified     ReasonCode = 0x80
	reasonMalformed       ReasonCode = 0x81
	reasonProtocolError   ReasonCode = 0x82
	reasonVersion         ReasonCode = 0x84
	reasonClientID        ReasonCode = 0x85
	reasonLogin           ReasonCode = 0x86
	reasonNotAuthorized   ReasonCode = 0x87
	reasonUnavailable     ReasonCode = 0x88
	reasonBusy            ReasonCode = 0x89
	reasonShutdown        ReasonCode = 0x8b
	reasonKeepAlive       ReasonCode = 0x8d
	reasonTakenOver       ReasonCode = 0x8e
	reasonFilter          ReasonCode = 0x8f
	reasonTopic           ReasonCode = 0x90
	reasonTopicAlias      ReasonCode = 0x94
	reasonTooLarge        ReasonCode = 0x95
	reasonRate            ReasonCode = 0x96
	reasonQuota           ReasonCode = 0x97
	reasonAdministrative  ReasonCode = 0x98
	reasonRetain          ReasonCode = 0x9a
	reasonQoS             ReasonCode = 0x9b
	reasonOtherServer     ReasonCode = 0x9c
	reasonServerMoved     ReasonCode = 0x9d
	reasonConnectionRate  ReasonCode = 0x9f
	reasonMaxConnectTime  ReasonCode = 0xa0
	reasonSharedFilters   ReasonCode = 0x9e
	reasonSubscriptionIDs ReasonCode = 0xa1
	reasonWildcards       ReasonCode = 0xa2
)

// reasonTexts are what the codes of MQTT 5 say, section 2.4.
var reasonTexts = map[ReasonCode]string{
	reasonUnspecified:     "unspecified error",
	reasonMalformed:       "malformed packet",
	reasonProtocolError:   "protocol error",
	0x83:                  "implementation specific error",
	reasonVersion:         "unsupported protocol version",
	reasonClientID:        "client identifier not valid",
	reasonLogin:           "bad user name or password",
	reasonNotAuthorized:   "not authorized",
	reasonUnavailable:     "server unavailable",
	reasonBusy:            "server busy",
	0x8a:                  "banned",
	reasonShutdown:        "server shutting down",
	0x8c:                  "bad authentication method",
	reasonKeepAlive:       "keep alive timeout",
	reasonTakenOver:       "session taken over",
	reasonFilter:          "topic filter invalid",
	reasonTopic:           "topic name invalid",
	0x91:                  "packet identifier in use",
	0x92:                  "packet identifier not found",
	0x93:                  "receive maximum exceeded",
	reasonTopicAlias:      "topic alias invalid",
	reasonTooLarge:        "packet too large",
	reasonRate:            "message rate too high",
	reasonQuota:           "quota exceeded",
	reasonAdministrative:  "administrative action",
	0x99:                  "payload format invalid",
	reasonRetain:          "retain not supported",
	reasonQoS:             "QoS not supported",
	reasonOtherServer:     "use another server",
	reasonServerMoved:     "server moved",
	reasonSharedFilters:   "shared subscriptions not supported",
	reasonConnectionRate:  "connection rate exceeded",
	reasonMaxConnectTime:  "maximum connect time",
	reasonSubscriptionIDs: "subscription identifiers not supported",
	reasonWildcards:       "wildcard subscriptions not supported",
}

func (c ReasonCode) String() string {
	if text := reasonTexts[c]; text != "" {
		return fmt.Sprintf("%s (0x%02X)", text, byte(c))
	}
	return fmt.Sprintf("reason 0x%02X", byte(c))
}

// because is a code with the broker's words, of which it may have sent 64 KB.
func because(c ReasonCode, words string) string {
	if words == "" {
		return c.String()
	}
	const most = 200
	return fmt.Sprintf("%v: %.*q", c, most, words)
}
