package configs

import (
	"log/slog"
	"net/netip"
	"time"

	"topicast/mapping"
)

// Config is a configuration that holds: every value is in its range, and the
// rules are compiled.
type Config struct {
	File   string // where it was read from
	Broker Broker
	Loops  Loops
	Queue  Queue
	Spool  Spool
	Web    Web
	Log    Log

	// Table is the compiled rules, send and receive.
	Table *mapping.Table
	// Warnings are what is allowed but seldom meant, in the order of the file.
	Warnings Errors

	root node   // the file as it was read, for At
	sum  uint64 // of its content, for Watch
}

// At is where the file has the key of a path such as send[3].source, or the rule
// or section that would hold it. Lines and columns count from 1.
func (c *Config) At(path string) (line, column int) {
	at := c.root.locate(path)
	return int(at.line), int(at.column)
}

// Release lets go of what only the start needs, and a long list of rules makes
// large: the table, the warnings, and what At tells.
func (c *Config) Release() { c.Table, c.Warnings, c.root = nil, nil, node{} }

// document is the file as it is written. The tags of its fields are the one
// place that says what a key is: its name, its default, its bounds and its
// meaning. Decoding, flags, variables and the test of reference.yaml follow
// them.
//
//	key       the name in the file
//	default   its value where neither flag, variable nor file gives one
//	usage     what it means, for the flag and for reference.yaml
//	range     the least and the greatest value, both allowed
//	oneof     the values allowed
//	path      it names a file: one that is relative is looked for beside the configuration
//	flag      "none" where a command line is no place for it
type document struct {
	Broker  Broker    `key:"broker"`
	Queue   Queue     `key:"queue"`
	Spool   Spool     `key:"spool"`
	Loops   Loops     `key:"loops"`
	Web     Web       `key:"web"`
	Log     Log       `key:"log"`
	Send    []send    `key:"send"`
	Receive []receive `key:"receive"`
}

// Broker is the section broker: which MQTT server, and as whom.
type Broker struct {
	URLs         URLs          `key:"url" default:"mqtt://127.0.0.1:1883" usage:"the broker: mqtt://, mqtts://, ws:// or wss://, host and port; of several, the first that answers"`
	ClientID     string        `key:"client_id" usage:"the name of this session at the broker; empty: topicast-<hostname>"`
	Username     string        `key:"username" usage:"the user to log in as; empty: none"`
	Secret       Secret        `key:"password" usage:"the password itself; better kept in password_file" flag:"none"`
	PasswordFile string        `key:"password_file" usage:"the file that holds the password, read again at every connect" path:"true"`
	TLS          TLS           `key:"tls"`
	KeepAlive    time.Duration `key:"keep_alive" default:"30s" range:"5s..18h" usage:"how long the line may be silent before the broker is asked whether it is still there"`
	Session      Session       `key:"session" default:"persistent" oneof:"persistent|clean" usage:"persistent: the broker keeps messages while we are away; clean: it forgets us"`
	StatusTopic  string        `key:"status_topic" default:"topicast/{client_id}/status" usage:"where the retained word online or offline is published; empty: nowhere"`
	MaxInFlight  int           `key:"max_in_flight" default:"1000" range:"1..32767" usage:"how many messages of QoS 1 and 2 that we publish may await the broker's acknowledgement"`
}

// TLS is the section broker.tls: whom to trust and how to prove who we are. It
// is used with mqtts and wss only.
type TLS struct {
	CAFile     string `key:"ca_file" usage:"the certificates (PEM) trusted to sign the broker's; empty: those of the system" path:"true"`
	CertFile   string `key:"cert_file" usage:"our own certificate (PEM, with its chain), for brokers that ask for one" path:"true"`
	KeyFile    string `key:"key_file" usage:"the private key (PEM, not encrypted) of cert_file" path:"true"`
	ServerName string `key:"server_name" usage:"the name the broker's certificate must bear; empty: the host of the url"`
}

// Queue is the section queue: the memory for messages on their way.
type Queue struct {
	Size Size `key:"size" default:"64MiB" range:"64KiB..64GiB" usage:"the most memory for messages that wait: for an interface, a socket or the broker"`
}

// Spool is the section spool: the disk for messages that cannot go on.
type Spool struct {
	Dir     string        `key:"dir" usage:"the folder for messages that cannot go on; empty: the one that systemd gives (StateDirectory=), and without it there is no spool" path:"true"`
	MaxSize Size          `key:"max_size" default:"256MiB" range:"64KiB..1TiB" usage:"the most that the messages in the spool may take"`
	MaxAge  time.Duration `key:"max_age" default:"1h" range:"0s..8760h" usage:"how long a message may wait before it is dropped, where the rule has no max_age; 0s: no limit"`
}

// Loops is the section loops: what keeps the two directions from feeding each
// other.
type Loops struct {
	Guard   bool          `key:"guard" default:"true" usage:"whether what comes back by the other direction is known again and stopped"`
	Memory  int           `key:"memory" default:"65536" range:"1..1048576" usage:"how many messages and datagrams the guard remembers at most"`
	Time    time.Duration `key:"time" default:"10s" range:"1s..10m" usage:"how long the guard remembers each"`
	Hold    time.Duration `key:"hold" default:"100ms" range:"0s..10s" usage:"how long a datagram of a rule on a cycle waits, in case its message comes from the broker"`
	Breaker int           `key:"breaker" default:"100" range:"0..1000000" usage:"how often in a second a receive rule may publish one payload on one topic, three seconds in a row, before it is stopped for a while; 0: no limit"`
}

// Web is the section web: the status page and its companions.
type Web struct {
	Listen string `key:"listen" default:"127.0.0.1:9479" usage:"host:port of the status page, /metrics, /healthz, /readyz and /status; empty: off"`
}

// Log is the section log.
type Log struct {
	Level  slog.Level `key:"level" default:"info" oneof:"debug|info|warn|error" usage:"the least that is logged: debug, info, warn or error"`
	Format Format     `key:"format" default:"text" oneof:"text|json" usage:"text for people, json for machines"`
}

// send is one entry of the list send, as it is written.
type send struct {
	Name       string           `key:"name" usage:"what the rule is called in the log, the metrics and the status page; empty: its filter"`
	Filter     mapping.Filter   `key:"filter" usage:"which topics: + is any one level, # the rest, {name} a + and {name#} a # whose text group may use"`
	QoS        uint8            `key:"qos" default:"1" range:"0..2" usage:"the quality of service to subscribe with"`
	Group      mapping.Group    `key:"group" usage:"where to: address:port of a multicast group; {...} is a capture of the filter or integer arithmetic on captures"`
	Source     netip.Prefix     `key:"source" usage:"the address of this host that datagrams leave from, or a prefix that picks one"`
	Interface  string           `key:"interface" usage:"the name of the interface that datagrams leave by"`
	SourcePort uint16           `key:"source_port" default:"0" range:"0..65535" usage:"the UDP port that datagrams leave from; 0: any free one"`
	TTL        uint8            `key:"ttl" default:"1" range:"1..255" usage:"how many networks a datagram may cross, the first included"`
	Loopback   bool             `key:"loopback" default:"true" usage:"whether programs on this host hear the datagrams too"`
	DSCP       dscp             `key:"dscp" default:"0" usage:"the traffic class of the datagrams: 0 to 63, or a name such as EF, AF41 or CS5"`
	Retained   mapping.Retained `key:"retained" default:"once" oneof:"once|always|never" usage:"messages that the broker had kept: sent once, always or never"`
	OnDown     mapping.OnDown   `key:"on_down" oneof:"spool|latest|drop" usage:"messages that come while source or interface is away: spool, latest or drop; left out: spool, and drop for QoS 0"`
	MaxAge     time.Duration    `key:"max_age" range:"0s..8760h" usage:"how long a message may wait for source or interface before it is dropped; left out: as long as spool.max_age says; 0s: no limit"`
	Payload    mapping.Payload  `key:"payload" default:"raw" usage:"how a message's payload becomes the datagram's: raw, hex, base64, or json:/pointer"`
	Oversize   oversize         `key:"oversize" default:"fragment" oneof:"fragment|drop" usage:"a datagram above the MTU of its interface: fragment or drop"`
}

// rule is the rule that the entry stands for. mapping.Compile fills in what
// follows from the rest: the name where there is none, and the address family.
func (s *send) rule() mapping.SendRule {
	return mapping.SendRule{
		Name:   s.Name,
		Filter: s.Filter,
		QoS:    s.QoS,
		Group:  s.Group,
		Binding: mapping.Binding{
			Interface:  s.Interface,
			Source:     s.Source,
			SourcePort: s.SourcePort,
			TTL:        s.TTL,
			Loopback:   s.Loopback,
			DSCP:       uint8(s.DSCP),
			Fragment:   s.Oversize == oversizeFragment,
		},
		Retained: s.Retained,
		OnDown:   s.OnDown,
		Payload:  s.Payload,
		MaxAge:   s.MaxAge,
	}
}

// receive is one entry of the list receive, as it is written.
type receive struct {
	Name      string           `key:"name" usage:"what the rule is called in the log, the metrics and the status page; empty: its groups"`
	Group     groups           `key:"group" usage:"what to listen to: address:port of a multicast group, a range of them, or a list"`
	Interface string           `key:"interface" usage:"where to listen: the name of an interface, or one of its addresses"`
	Source    sources          `key:"source" usage:"whom to listen to: an address, a prefix, or a list; empty: everybody"`
	Topic     mapping.Topic    `key:"topic" usage:"where to publish; {...} is an address or a name of the datagram, or integer arithmetic on them"`
	QoS       uint8            `key:"qos" default:"1" range:"0..2" usage:"the quality of service to publish with"`
	Retain    bool             `key:"retain" default:"false" usage:"whether the broker keeps the last message of each topic for whoever subscribes later"`
	Payload   mapping.Encoding `key:"payload" default:"raw" usage:"how a datagram's payload becomes the message's: raw, hex, base64 or json"`
	Every     time.Duration    `key:"every" default:"0s" range:"0s..24h" usage:"the least time between two messages of a topic; of the datagrams between, the latest is published; 0s: all are"`
	OnChange  bool             `key:"on_change" default:"false" usage:"whether a datagram is left out when its payload is the one that the topic had last"`
}

// rule is the rule that the entry stands for. mapping.Compile names it where it
// has no name.
func (r *receive) rule() mapping.ReceiveRule {
	return mapping.ReceiveRule{
		Name:      r.Name,
		Groups:    r.Group,
		Interface: r.Interface,
		Sources:   r.Source,
		Topic:     r.Topic,
		QoS:       r.QoS,
		Retain:    r.Retain,
		Encoding:  r.Payload,
		Every:     r.Every,
		OnChange:  r.OnChange,
	}
}

// groups are the groups of a receive rule: one value, or a list.
type groups []mapping.GroupRange

// sources are the senders that a receive rule listens to: one value, or a list.
type sources []netip.Prefix

// Session says what the broker keeps of us while we are away.
type Session string

// The values of broker.session.
const (
	SessionPersistent Session = "persistent" // subscriptions, and the messages of QoS 1 and 2
	SessionClean      Session = "clean"      // nothing
)

// Format is how a line of the log looks.
type Format string

// The values of log.format.
const (
	FormatText Format = "text"
	FormatJSON Format = "json"
)

// oversize says what becomes of a datagram above the MTU of its interface.
type oversize string

// The values of oversize.
const (
	oversizeFragment oversize = "fragment" // it leaves in IP fragments
	oversizeDrop     oversize = "drop"
)

// Secret is a text that neither a log nor an error shows.
type Secret string

// String hides the text.
func (Secret) String() string { return "(secret)" }

// GoString hides the text from %#v.
func (s Secret) GoString() string { return s.String() }

// MarshalText hides the text from encoders.
func (s Secret) MarshalText() ([]byte, error) { return []byte(s.String()), nil }
