package send

import (
	"encoding/base64"
	"strings"
	"time"

	"topicast/bridge/session"
)

// expiry is for how long a message is good from when it came, as its publisher has said with MQTT 5;
// 0: nobody has. It is what max_age is of a rule, of one message: in memory, on disk, where it is
// measured on the spool's timeline and no clock counts, and for what is sent again.
type expiry time.Duration

// expiryOf is that of a message that has come.
func expiryOf(m *session.Message) expiry {
	d, said := m.Expiry()
	if !said {
		return 0
	}
	return expiry(max(d, 1)) // 0 s: it is good for now
}

// overAfter reports whether a message that has waited so long is of no use any more.
func (e expiry) overAfter(waited time.Duration) bool { return e > 0 && waited > time.Duration(e) }

// propertiesMark stands between the two.
const propertiesMark = " "

// keyOf is what the spool keeps of what a message says of itself, and readKey reads it.
func keyOf(goodFor expiry, to *reply, properties session.Properties) string {
	if goodFor == 0 && to == nil && len(properties) == 0 {
		return ""
	}
	key := time.Duration(goodFor).String()
	if len(properties) > 0 {
		key += propertiesMark + base64.RawStdEncoding.EncodeToString(properties)
	}
	if to != nil {
		key += "\x00" + to.topic // no topic has a NUL
		if to.data != nil {
			key += "\x00" + string(to.data)
		}
	}
	return key
}

func readKey(key string) (expiry, *reply, session.Properties) {
	parts := strings.SplitN(key, "\x00", 3)
	duration, coded, _ := strings.Cut(parts[0], propertiesMark)
	d, err := time.ParseDuration(duration)
	if err != nil {
		return 0, nil, nil
	}
	properties, _ := base64.RawStdEncoding.DecodeString(coded)
	var to *reply
	if len(parts) > 1 {
		to = &reply{topic: parts[1]}
	}
	if len(parts) > 2 {
		to.data = []byte(parts[2])
	}
	return expiry(max(d, 0)), to, session.ReadProperties(properties)
}
