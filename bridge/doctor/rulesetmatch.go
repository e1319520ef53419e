package doctor

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"
)

// Which packets a rule is for. What is not understood is not guessed at.

// satisfies reports whether a packet satisfies an expression, and whether that is sure.
func (w *walk) satisfies(c *chain, e map[string]any) (is, sure bool) {
	raw, matches := e["match"].(map[string]any)
	if !matches {
		for key := range e {
			switch key {
			case "counter", "log", "comment":
				return true, true
			case "xt":
				if m, ok := e[key].(map[string]any); ok && m["type"] == "match" && m["name"] == "comment" {
					return true, true
				}
			}
		}
		return false, false // limit, xt and others
	}
	op, _ := raw["op"].(string)
	left, _ := raw["left"].(map[string]any)
	value, known, present := w.value(left)
	if !present && known {
		return false, true // another protocol
	}
	if !known {
		return false, false
	}
	in, sure := w.among(c, value, raw["right"])
	switch op {
	case "==", "in":
		return in, sure
	case "!=":
		return !in, sure
	}
	return false, false
}

// value is what a packet has for the left side of a match.
func (w *walk) value(left map[string]any) (value any, known, present bool) {
	if m, ok := left["meta"].(map[string]any); ok {
		value = w.p.meta(m["key"])
		return value, value != nil, true
	}
	if m, ok := left["ct"].(map[string]any); ok {
		if w.p.Answer {
			return "established", m["key"] == "state", true
		}
		return "new", m["key"] == "state", true
	}
	m, ok := left["payload"].(map[string]any)
	if !ok {
		return nil, false, true
	}
	protocol, _ := m["protocol"].(string)
	field, _ := m["field"].(string)
	return w.p.header(protocol, field)
}

// meta is what a packet has beside its bytes, or nil where that is not known.
func (p Packet) meta(key any) (value any) {
	switch key {
	case "iifname", "iif":
		return p.In
	case "oifname", "oif":
		return p.Out
	case "l4proto":
		return p.Protocol
	case "nfproto":
		if p.IPv6 {
			return "ipv6"
		}
		return "ipv4"
	case "protocol":
		return p.network()
	case "pkttype":
		if p.To.IsMulticast() {
			return "multicast"
		}
		return "host"
	}
	return nil
}

// header is a field of the header of a protocol.
func (p Packet) header(protocol, field string) (value any, known, present bool) {
	switch {
	case protocol == "ether" && field == "type":
		return p.network(), true, true
	case protocol == "ip" && p.IPv6, protocol == "ip6" && !p.IPv6:
		return nil, true, false
	case protocol == "ip" || protocol == "ip6":
		switch field {
		case "saddr":
			return p.From, p.From.IsValid(), true
		case "daddr":
			return p.To, true, true
		case "protocol", "nexthdr":
			return p.Protocol, true, true
		}
		return nil, false, true
	case protocol == "th" && p.Protocol == "udp" || protocol == "udp":
		if p.Protocol != "udp" {
			return nil, true, false
		}
		if field == "dport" {
			return p.Port, true, true
		}
		return p.FromPort, p.FromPort != 0 && field == "sport", true
	case protocol == "icmpv6" && p.Protocol == "icmpv6" && field == "type":
		return p.Type, true, true
	case protocol == "tcp" || protocol == "icmp" || protocol == "icmpv6" || protocol == "igmp" && p.Protocol != "igmp":
		return nil, true, false
	}
	return nil, false, true
}

func (p Packet) network() string {
	if p.IPv6 {
		return "ip6"
	}
	return "ip"
}

// among reports whether a value is what the right side of a match says.
func (w *walk) among(c *chain, value, right any) (is, sure bool) {
	switch r := right.(type) {
	case []any:
		return w.anyOf(c, value, r)
	case string:
		if strings.HasPrefix(r, "@") {
			elements, known := w.sets[c.Family+" "+c.Table+" "+r]
			if !known {
				return false, false
			}
			return w.anyOf(c, value, elements)
		}
		return equal(value, r), true
	case float64:
		return equal(value, strconv.Itoa(int(r))) || value == "igmp" && r == 2 || value == "udp" && r == 17, true
	case map[string]any:
		if set, ok := r["set"].([]any); ok {
			return w.anyOf(c, value, set)
		}
		if elem, ok := r["elem"].(map[string]any); ok {
			return w.among(c, value, elem["val"])
		}
		if prefix, ok := r["prefix"].(map[string]any); ok {
			text := fmt.Sprintf("%v/%v", prefix["addr"], prefix["len"])
			p, err := netip.ParsePrefix(text)
			a, isAddr := value.(netip.Addr)
			return err == nil && isAddr && p.Contains(a), err == nil && isAddr
		}
		if ends, ok := r["range"].([]any); ok && len(ends) == 2 {
			return within(value, fmt.Sprint(ends[0]), fmt.Sprint(ends[1]))
		}
	}
	return false, false
}

func (w *walk) anyOf(c *chain, value any, list []any) (is, sure bool) {
	sure = true
	for _, one := range list {
		in, known := w.among(c, value, one)
		if in && known {
			return true, true
		}
		sure = sure && known
	}
	return false, sure
}

func equal(value any, text string) bool {
	if name, ok := value.(string); ok && strings.HasSuffix(text, "*") {
		return strings.HasPrefix(name, strings.TrimSuffix(text, "*"))
	}
	return fmt.Sprint(value) == text
}

func within(value any, low, high string) (is, sure bool) {
	switch v := value.(type) {
	case netip.Addr:
		a, err := netip.ParseAddr(low)
		b, noAddr := netip.ParseAddr(high)
		return err == nil && noAddr == nil && a.Compare(v) <= 0 && v.Compare(b) <= 0, err == nil && noAddr == nil
	case uint16:
		a, err := strconv.Atoi(low)
		b, noNumber := strconv.Atoi(high)
		return err == nil && noNumber == nil && a <= int(v) && int(v) <= b, err == nil && noNumber == nil
	}
	return false, false
}
