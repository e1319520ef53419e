package harness

import (
	"flag"
	"fmt"
)

// A Protocol is the version of MQTT that topicast is told to speak (broker.protocol), a flag.
type Protocol string

// ProtocolFlag defines the flag.
func ProtocolFlag(f *flag.FlagSet, p *Protocol) {
	*p = "auto"
	f.Var(p, "protocol", "the `version` of MQTT that topicast speaks: auto, 5 or 3.1.1; mosquitto speaks both, so that auto is 5")
}

// Set reads the flag.
func (p *Protocol) Set(text string) error {
	switch text {
	case "auto", "5", "3.1.1":
		*p = Protocol(text)
		return nil
	}
	return fmt.Errorf("it is not auto, 5 or 3.1.1")
}

func (p *Protocol) String() string { return string(*p) }

// Setting is what it adds to the section broker, in braces. It is nothing for auto, which is
// the default, and which a topicast that is too old to have the key may be measured with.
func (p Protocol) Setting() string {
	if p == "" || p == "auto" {
		return ""
	}
	return fmt.Sprintf(", protocol: %q", string(p))
}

// Spoken is the version that topicast speaks then with a broker that has both.
func (p Protocol) Spoken() string {
	if p == "3.1.1" {
		return "3.1.1"
	}
	return "5"
}

// Five reports whether that is MQTT 5.
func (p Protocol) Five() bool { return p.Spoken() == "5" }
