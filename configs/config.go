package configs

import (
	"log/slog"
	"time"

	"topicast/configs/syntax"
	"topicast/mapping"
)

// Config is a configuration that holds: every value is in its range, and the
// rules are compiled.
type Config struct {
	File    string // where it was read from
	Broker  Broker
	Loops   Loops
	Queue   Queue
	Spool   Spool
	Web     Web
	Control Control
	Log     Log

	// Table is the compiled rules, send and receive.
	Table *mapping.Table
	// Warnings are what is allowed but seldom meant, in the order of the file.
	Warnings Errors

	scalarWarnings Errors            // those of the file, of variables and flags that no rule is about
	origins        map[string]origin // of the keys outside the rules that are given, by path

	root    syntax.Node // the file as it was read, for At
	content []byte      // of the file, for Keep
	sum     uint64      // of the content, for Watch
}

// At returns the place in the file of the key of a path such as send[3].source, or the rule
// or section that would hold it. Lines and columns count from 1.
func (c *Config) At(path string) (line, column int) {
	at := c.root.Locate(path)
	return int(at.Line), int(at.Column)
}

// Fault returns err as a fault of the key of a path, with the place where the key is
// given: by a flag, a variable, or the file, and there as At returns it.
func (c *Config) Fault(path string, err error, hint string) *Error {
	e := &Error{Origin: c.File, Path: path, Err: err, Hint: hint}
	if from := c.origins[path]; from.name != "" {
		e.Origin, e.Variable = from.name, from.layer == layerEnv
	} else {
		e.Line, e.Column = c.At(path)
	}
	return e
}

// Release drops what only the start needs, and a long list of rules makes
// large: the table, the warnings, and what At and Keep need.
func (c *Config) Release() { c.Table, c.Warnings, c.root, c.content = nil, nil, syntax.Node{}, nil }

// document is the file as it is written. The tags of its fields, and of the rules of
// package mapping, are the one place that says what a key is: its name, its default, its
// bounds and its meaning. Decoding, flags, variables, what check and explain say, and the
// test of reference.yaml follow them. The keys of a struct within a rule that has no key
// itself are keys of the rule.
//
//	key       the name in the file
//	default   its value where neither flag, variable nor file gives one
//	usage     what it means, for the flag and for reference.yaml
//	range     the least and the greatest value, both allowed
//	oneof     the values allowed
//	true      of those, the one that stands for true, where the field is a bool
//	parse     how its text is read, where the type does not tell
//	means     of a rule: what a value means, for explain; "value: meaning", parted by |, * is every other value
//	path      it names a file, or a folder: one that is relative is looked for beside the configuration
//	flag      "none" where a command line is no place for it
type document struct {
	Broker  Broker                `key:"broker"`
	Queue   Queue                 `key:"queue"`
	Spool   Spool                 `key:"spool"`
	Loops   Loops                 `key:"loops"`
	Web     Web                   `key:"web"`
	Control Control               `key:"control"`
	Log     Log                   `key:"log"`
	Send    []mapping.SendRule    `key:"send"`
	Receive []mapping.ReceiveRule `key:"receive"`
}

// Broker is the section broker: which MQTT server, and as whom.
type Broker struct {
	URLs         URLs          `key:"url" default:"mqtt://127.0.0.1:1883" usage:"the broker: mqtt://, mqtts://, ws:// or wss://, host and port, unix:// and a path, or mqtt+srv:// and a name; of several, the first that answers"`
	ReturnAfter  time.Duration `key:"return_after" default:"0s" range:"0s..24h" usage:"how often the first broker of url is tried while another is in use, to go back to it; 0s: never"`
	ClientID     string        `key:"client_id" usage:"the name of this session at the broker; empty: topicast-<hostname>"`
	Username     string        `key:"username" usage:"the user to log in as; empty: none"`
	Secret       Secret        `key:"password" usage:"the password itself; better kept in password_file" flag:"none"`
	PasswordFile string        `key:"password_file" usage:"the file that holds the password, read again at every connect" path:"true"`
	Command      string        `key:"password_command" usage:"the command that prints the password, run by the shell at every connect; empty: none"`
	Lifetime     time.Duration `key:"password_lifetime" default:"0s" range:"0s..8760h" usage:"how long a password is good for, as of a token: a new one is asked for, and logged in with, before; 0s: for ever, or what a JSON Web Token says of itself"`
	TLS          TLS           `key:"tls"`
	Proxy        Proxy         `key:"proxy"`
	Bind         string        `key:"bind" usage:"the address of this host, or the interface, by which the broker is reached; empty: as the routes say"`
	Protocol     Protocol      `key:"protocol" default:"auto" oneof:"auto|5|3.1.1" usage:"the version of MQTT: auto (5, and 3.1.1 with a broker that does not speak 5), 5 or 3.1.1"`
	KeepAlive    time.Duration `key:"keep_alive" default:"30s" range:"5s..18h" usage:"how long the line may be silent before the broker is asked whether it is still there"`
	Session      Session       `key:"session" default:"persistent" oneof:"persistent|clean" usage:"persistent: the broker keeps messages while we are away; clean: it forgets us"`
	Expiry       time.Duration `key:"session_expiry" default:"0s" range:"0s..876000h" usage:"how long the broker keeps a persistent session while we are away, with MQTT 5; 0s: for ever, or as long as it does"`
	StatusTopic  string        `key:"status_topic" default:"topicast/{client_id}/status" usage:"where the retained word online or offline is published; empty: nowhere"`
	GiveUpAfter  int           `key:"give_up_after" default:"3" range:"0..1000" usage:"how many connections the broker may end over one message, while it takes others, until that message is given up; 0: never"`
	DeadLetters  string        `key:"dead_letters" usage:"the file for messages that were given up; empty: dead-letters.jsonl in the state folder, and without one there is none" path:"true"`
	MaxInFlight  int           `key:"max_in_flight" default:"1000" range:"1..32767" usage:"how many messages of QoS 1 and 2 that we publish may await the broker's acknowledgement"`
	MaxSubs      int           `key:"max_subscriptions" default:"0" range:"0..1000000" usage:"how many subscriptions the broker takes of one client; 0: as many as it is found to take"`
	MaxFilters   int           `key:"max_filters" default:"0" range:"0..500" usage:"how many filters the broker takes in one SUBSCRIBE; 0: 500, or as many as it is found to take"`
	MaxRate      int           `key:"max_rate" default:"0" range:"0..100000" usage:"how many messages a second are published, evenly spaced; 0: as many as there are"`
	Aliases      bool          `key:"topic_aliases" default:"false" usage:"true: topics that come again are published by an alias, with MQTT 5 and a broker that takes some, which saves bytes"`
	MaxPacket    Size          `key:"max_packet" default:"0" range:"0..256MiB" usage:"the largest packet that the broker takes; 0: what it says, with MQTT 5, or any"`
}

// TLS is the section broker.tls: whom to trust and how to prove who we are. It
// is used with mqtts and wss only.
type TLS struct {
	CAFile     string    `key:"ca_file" usage:"the certificates (PEM) trusted to sign the broker's; empty: those of the system" path:"true"`
	CertFile   string    `key:"cert_file" usage:"our own certificate (PEM, with its chain), for brokers that ask for one" path:"true"`
	KeyFile    string    `key:"key_file" usage:"the private key (PEM, not encrypted) of cert_file" path:"true"`
	ServerName string    `key:"server_name" usage:"the name the broker's certificate must bear; empty: the host of the url"`
	ALPN       Protocols `key:"alpn" usage:"protocols to offer in the TLS handshake (ALPN), for brokers that share a port with others; empty: none"`
}

// Proxy is the section broker.proxy: what the broker is reached through.
type Proxy struct {
	URL          string `key:"url" usage:"the proxy: http://host:port (CONNECT) or socks5://host:port; empty: none"`
	Username     string `key:"username" usage:"the user to log in as at the proxy; empty: none"`
	PasswordFile string `key:"password_file" usage:"the file that holds the password for the proxy, read again at every connect" path:"true"`
}

// Queue is the section queue: the memory for messages on their way.
type Queue struct {
	Size Size `key:"size" default:"32MiB" range:"64KiB..64GiB" usage:"the most memory for messages that wait: for an interface, a socket or the broker"`
}

// Spool is the section spool: the disk for messages that cannot go on.
type Spool struct {
	Dir     string        `key:"dir" usage:"the folder for messages that cannot go on; empty: the one that systemd gives (StateDirectory=), and without it there is no spool" path:"folder"`
	MaxSize Size          `key:"max_size" default:"256MiB" range:"64KiB..1TiB" usage:"the most that the messages in the spool may take"`
	MaxAge  time.Duration `key:"max_age" default:"1h" range:"0s..8760h" usage:"how long a message may wait before it is dropped, where the rule has no max_age; 0s: no limit"`
}

// Loops is the section loops: what keeps the two directions from feeding each
// other.
type Loops struct {
	Guard   bool          `key:"guard" default:"true" usage:"whether what comes back by the other direction is known again and stopped"`
	Memory  int           `key:"memory" default:"65536" range:"1..1048576" usage:"how many messages and datagrams the guard remembers at most"`
	Time    time.Duration `key:"time" default:"10s" range:"1s..10m" usage:"how long the guard remembers each"`
	Delay   time.Duration `key:"hold" default:"100ms" range:"0s..10s" usage:"how long a datagram of a rule on a cycle waits, in case its message comes from the broker"`
	Breaker int           `key:"breaker" default:"100" range:"0..1000000" usage:"how often in a second a receive rule may publish one payload of one source on one topic, three seconds in a row, before it is tested whether that goes round through other programs; 0: never"`
}

// Web is the section web: the status page and its companions.
type Web struct {
	Listen string `key:"listen" default:"127.0.0.1:9479" usage:"host:port of the status page, /metrics, /healthz, /readyz and /status; empty: off"`
	Hosts  Hosts  `key:"hosts" usage:"names under which the status page is served, beside addresses, this host's name and names that nobody can register"`
}

// Control is the section control: the socket by which this host's users ask a running bridge.
type Control struct {
	Listen string `key:"listen" default:"auto" usage:"the socket for topicast status, tap and rejoin: unix: and its path, or auto, which is in the folder that systemd gives (RuntimeDirectory=), else in that of the user (XDG_RUNTIME_DIR), else off; empty: off"`
}

// Log is the section log.
type Log struct {
	Level  slog.Level `key:"level" default:"info" oneof:"debug|info|warn|error" usage:"the least that is logged: debug, info, warn or error"`
	Format Format     `key:"format" default:"text" oneof:"text|json" usage:"text for people, json for machines"`
}

// Protocol is the version of MQTT.
type Protocol string

// The versions.
const (
	ProtocolAuto Protocol = "auto" // 5, and 3.1.1 with a broker that does not speak 5
	Protocol5    Protocol = "5"
	Protocol311  Protocol = "3.1.1"
)

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

// Secret is a text that neither a log nor an error shows.
type Secret string

// String hides the text.
func (Secret) String() string { return "(secret)" }

// GoString hides the text from %#v.
func (s Secret) GoString() string { return s.String() }

// MarshalText hides the text from encoders.
func (s Secret) MarshalText() ([]byte, error) { return []byte(s.String()), nil }
