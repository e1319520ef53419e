package mapping

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// A Fault is one thing wrong with one field of a rule.
type Fault struct {
	Path string // of the field as in the configuration: "send[3].group"
	Err  error
	Hint string // what to do about it; "" where the error says it
}

func (f *Fault) Error() string { return f.Path + ": " + f.Err.Error() }

func (f *Fault) Unwrap() error { return f.Err }

// Compile checks rules as far as that is possible without looking at this host,
// and makes a table of them. Its error joins every *Fault there is.
//
// The rules are copied. A rule without a name is given the text of its filter or
// of its groups, OnDown is set where it is not, and Binding.IPv6 and Binding.Host are set
// from the target and the source.
func Compile(send []SendRule, receive []ReceiveRule) (*Table, error) {
	return CompileOwn(slices.Clone(send), slices.Clone(receive))
}

// MaxFaults is how many faults Compile looks for: from the rule that makes as many on, none is
// looked at. Each takes memory, and a person mends a hundred at a time.
const MaxFaults = 5000

// CompileOwn is Compile, but the rules are the table's from then on: where there are 32,000 of
// them, another copy takes 10 MB.
func CompileOwn(send []SendRule, receive []ReceiveRule) (*Table, error) {
	t := &Table{
		send:    send,
		receive: receive,
		routes:  make([]route, len(send)),
	}
	c := compilation{
		send:      t.send,
		names:     make(map[string]place, len(send)+len(receive)),
		words:     make(map[string]place),
		ports:     make(map[localEnd]int),
		templates: make(map[string]*template),
	}
	for i := range t.send {
		if len(c.faults) >= MaxFaults {
			break
		}
		c.at = place{"send", i}
		c.checkSend(&t.send[i])
		t.routes[i] = c.route(&t.send[i])
	}
	for i := range t.receive {
		if len(c.faults) >= MaxFaults {
			break
		}
		c.at = place{"receive", i}
		c.checkReceive(&t.receive[i])
	}
	if len(c.faults) == 0 {
		c.checkAnswerLoops()
	}
	t.several = c.several
	if len(c.faults) == 0 {
		t.trie = trieOf(t.send)
		c.checkShares(t.trie)
	}
	if len(c.faults) > 0 {
		return nil, errors.Join(c.faults...)
	}
	t.loops = findLoops(t)
	return t, nil
}

// A compilation gathers the faults of all rules; at is the one it is at.
type compilation struct {
	send      []SendRule
	at        place
	names     map[string]place     // rule by name
	words     map[string]place     // receive rule by the topic that tells whether it hears something
	ports     map[localEnd]int     // send rule by the fixed source port it leaves from
	templates map[string]*template // by text: equal ones are kept once
	groups    int                  // of the receive rules so far
	several   bool                 // a rule has several interfaces
	faults    []error
}

// A place is a rule's in the configuration.
type place struct {
	list string // send or receive
	rule int
}

func (p place) String() string { return p.list + "[" + strconv.Itoa(p.rule) + "]" }

func (p place) path(field string) string { return p.String() + "." + field }

func (c *compilation) fault(field, hint, format string, args ...any) {
	c.faults = append(c.faults, &Fault{
		Path: c.at.path(field),
		Err:  fmt.Errorf(format, args...),
		Hint: hint,
	})
}

// checkName looks at a rule's name, which labels its metrics and logs. hint says
// where it comes from if the rule has none of its own.
func (c *compilation) checkName(name, hint string) {
	if name == "" {
		return // what it would come from is missing, and that is said
	}
	if !utf8.ValidString(name) || strings.ContainsFunc(name, unicode.IsControl) {
		c.fault("name", "", "%s holds control characters or is not UTF-8, so it cannot label a metric", quote(name))
	}
	if other, taken := c.names[name]; taken {
		c.fault("name", hint, "%s is the name of %s too", quote(name), other)
		return
	}
	c.names[name] = c.at
}

func (c *compilation) checkQoS(qos byte) {
	if qos > 2 {
		c.fault("qos", "", "%d is not 0, 1 or 2", qos)
	}
}

// checkSource refuses what no datagram can have as its source. The hints say what
// a source is, and what to write instead of one that is no address at all.
func (c *compilation) checkSource(field string, p netip.Prefix, isA, instead string) {
	a, single := p.Addr(), p.IsSingleIP()
	switch {
	case a.Is4In6():
		c.fault(field, "write "+a.Unmap().String(), "%s is an IPv4 address written as IPv6", a)
	case a.IsMulticast():
		c.fault(field, isA, "%s is multicast", a)
	case single && a.IsUnspecified():
		c.fault(field, instead, "%s is no address to send from", a)
	case single && a == broadcast:
		c.fault(field, isA, "%s is the broadcast address", a)
	case p != p.Masked():
		c.fault(field, fmt.Sprintf("write %s for this address, %s for any address of the network", a, p.Masked()),
			"%s is an address and a network at once", p)
	}
}

var broadcast = netip.AddrFrom4([4]byte{255, 255, 255, 255})

func family(ipv6 bool) string {
	if ipv6 {
		return "IPv6"
	}
	return "IPv4"
}

// PrefixText is a prefix as a person writes it: a single address without its length, "-"
// for none.
func PrefixText(p netip.Prefix) string {
	switch {
	case !p.IsValid():
		return "-"
	case p.IsSingleIP():
		return p.Addr().String()
	}
	return p.String()
}
