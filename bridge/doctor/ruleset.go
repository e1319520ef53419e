package doctor

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
)

// A Ruleset is the firewall of the host, as "nft --json list ruleset" prints it: what iptables-nft and
// ebtables-nft have made is there too.
type Ruleset struct {
	chains []*chain
	sets   map[string][]any // elements, by family, table and name
}

type chain struct {
	Family, Table, Name string
	Type, Hook, Policy  string
	Dev                 any // a name, or several
	Prio                int
	rules               []rule
}

type rule struct {
	handle int
	expr   []map[string]any
}

// A Packet is what the rules are asked about.
type Packet struct {
	IPv6     bool
	Protocol string // udp, igmp or icmpv6
	Type     string // of ICMPv6
	From, To netip.Addr
	Port     uint16 // it goes to; 0: any
	Groups   string // To stands for these, as nft has them: a prefix, or a set; "": for itself
	Own      bool   // To stands for all that comes to this host itself
	Answer   bool   // to what left before, from there: conntrack has it as established
	FromPort uint16 // 0: not known
	In, Out  string // interfaces
}

// A Verdict is what the rules do to a packet.
type Verdict struct {
	Chain   string // family, table and name of the base chain
	Text    string // which rule, or the policy
	Unknown bool   // it hangs on a rule that cannot be read
	family  string
}

// ParseRuleset reads the JSON of nft (libnftables-json(5)).
func ParseRuleset(text []byte) (*Ruleset, error) {
	var document struct {
		Nftables []map[string]json.RawMessage
	}
	d := json.NewDecoder(bytes.NewReader(text))
	if err := d.Decode(&document); err != nil {
		return nil, fmt.Errorf("read what nft prints: %w", err)
	}
	r := &Ruleset{sets: make(map[string][]any)}
	for _, object := range document.Nftables {
		if raw, is := object["chain"]; is {
			c := new(chain)
			if err := json.Unmarshal(raw, c); err != nil {
				return nil, fmt.Errorf("read a chain that nft prints: %w", err)
			}
			r.chains = append(r.chains, c)
		}
		for _, kind := range []string{"set", "map"} {
			var s struct {
				Family, Table, Name string
				Elem                []any
			}
			if raw, is := object[kind]; is && json.Unmarshal(raw, &s) == nil {
				r.sets[s.Family+" "+s.Table+" @"+s.Name] = s.Elem
			}
		}
		if raw, is := object["rule"]; is {
			var one struct {
				Family, Table, Chain string
				Handle               int
				Expr                 []map[string]any
			}
			if err := json.Unmarshal(raw, &one); err != nil {
				return nil, fmt.Errorf("read a rule that nft prints: %w", err)
			}
			if c := r.chain(one.Family, one.Table, one.Chain); c != nil {
				c.rules = append(c.rules, rule{one.Handle, one.Expr})
			}
		}
	}
	return r, nil
}

func (r *Ruleset) chain(family, table, name string) *chain {
	for _, c := range r.chains {
		if c.Family == family && c.Table == table && c.Name == name {
			return c
		}
	}
	return nil
}

// Stops finds the chain that does not let a packet through at one of the hooks. What hangs on a rule
// that cannot be read is told only where nothing else stops it.
func (r *Ruleset) Stops(p Packet, hooks ...string) (v Verdict, stopped bool) {
	for _, hook := range hooks {
		for _, c := range r.at(p, hook) {
			if c.Type == "nat" {
				continue
			}
			w := walk{Ruleset: r, p: p}
			verdict, by := w.run(c, 0)
			text := by
			if verdict == "" && c.Policy == "drop" {
				verdict, text = "drop", "its policy is drop"
			}
			if verdict == "drop" && w.spared != "" {
				w.maybe, verdict = w.spared+"; if it does not: "+text, ""
			}
			if verdict == "drop" {
				return Verdict{Chain: c.String(), Text: text, family: c.Family}, true
			}
			if w.maybe != "" && !v.Unknown {
				v = Verdict{Chain: c.String(), Text: w.maybe, Unknown: true, family: c.Family}
			}
		}
	}
	return v, v.Unknown
}

// Rewrites finds a rule that changes the source of a packet on its way out.
func (r *Ruleset) Rewrites(p Packet) (v Verdict, is bool) { return r.translates(p, "postrouting") }

// Redirects finds a rule that changes where a packet goes that comes in.
func (r *Ruleset) Redirects(p Packet) (v Verdict, is bool) { return r.translates(p, "prerouting") }

func (r *Ruleset) translates(p Packet, hook string) (v Verdict, is bool) {
	for _, c := range r.at(p, hook) {
		if c.Type != "nat" {
			continue
		}
		w := walk{Ruleset: r, p: p}
		if verdict, by := w.run(c, 0); verdict == "nat" {
			return Verdict{Chain: c.String(), Text: by, family: c.Family}, true
		}
	}
	return v, false
}

// at are the base chains that a packet comes through at a hook, in their order.
func (r *Ruleset) at(p Packet, hook string) (found []*chain) {
	for _, c := range r.chains {
		family := c.Family == "inet" || c.Family == "bridge" || c.Family == "netdev" || c.Family == "ip" && !p.IPv6 || c.Family == "ip6" && p.IPv6
		if c.Hook != hook && c.Hook+"/bridge" != hook || !family {
			continue
		}
		if (c.Family == "bridge") != strings.HasSuffix(hook, "/bridge") {
			continue
		}
		if on := asList(c.Dev); len(on) > 0 && !slices.Contains(on, any(p.In)) && !slices.Contains(on, any(p.Out)) {
			continue
		}
		found = append(found, c)
	}
	slices.SortStableFunc(found, func(a, b *chain) int { return a.Prio - b.Prio })
	return found
}

func (c *chain) String() string { return c.Family + " " + c.Table + " " + c.Name }

// at names a rule of the chain, by what nft -a prints beside it.
func (c *chain) at(r rule) string {
	return fmt.Sprintf("the rule with handle %d of chain %s", r.handle, c)
}

func asList(v any) []any {
	switch v := v.(type) {
	case nil:
		return nil
	case []any:
		return v
	}
	return []any{v}
}

// walk is the way of one packet through chains.
type walk struct {
	*Ruleset
	p      Packet
	maybe  string // a rule that would drop it, and cannot be read
	spared string // likewise, one that would let it through
	steps  int    // rules that were looked at
}

const (
	// deepest is how far jumps are followed: the kernel refuses more (NFT_JUMP_STACK_SIZE).
	deepest = 16

	// mostSteps is how many rules a packet is held against: where chains are jumped to from many
	// others the number doubles with each.
	mostSteps = 100_000
)

// run returns accept, drop, nat or "" for the end of the chain, and the rule that decided.
func (w *walk) run(c *chain, depth int) (verdict, by string) {
	if depth > deepest {
		return "", ""
	}
	for _, r := range c.rules {
		matches, known := true, true
		if w.steps++; w.steps > mostSteps {
			w.maybe = "there are more rules than are looked at here"
			return "", ""
		}
		for _, e := range r.expr {
			if !matches {
				break
			}
			switch verdict, target := decision(e); verdict {
			case "":
				is, sure := w.satisfies(c, e)
				matches, known = matches && (is || !sure), known && sure
			case "drop":
				if known {
					return "drop", c.at(r) + " drops it"
				}
				w.maybe = c.at(r) + " may drop it: it has a condition that is not understood here"
			case "queue":
				if known {
					w.maybe = c.at(r) + " may drop it: it hands it to another program (queue)"
					return "accept", c.at(r) // no more rules of the chain are asked, nor is its policy
				}
			case "jump", "goto":
				to := w.chain(c.Family, c.Table, target)
				if to == nil || !known {
					continue
				}
				if v, by := w.run(to, depth+1); v == "accept" || v == "drop" || v == "nat" {
					return v, by
				}
				if verdict == "goto" {
					return "", ""
				}
			case "accept", "nat":
				if known {
					return verdict, c.at(r)
				}
				w.spare(c, r)
			case "return":
				if known {
					return "", ""
				}
				w.spare(c, r)
			}
		}
	}
	return "", ""
}

// spare notes a rule that may keep the packet from those behind it.
func (w *walk) spare(c *chain, r rule) {
	if w.spared == "" {
		w.spared = c.at(r) + " may let it through: it has a condition that is not understood here"
	}
}

// xtTargets are the targets of iptables and ebtables that end the way of a packet through a chain and that nft has no words
// for (iptables-extensions(8), xtables-addons(8)). All others, such as LOG, MARK and TTL, let it go on.
var xtTargets = map[string]string{
	"DROP": "drop", "REJECT": "drop", "TARPIT": "drop", "DELUDE": "drop", "CHAOS": "drop", "ECHO": "drop",
	"NFQUEUE": "queue", "QUEUE": "queue",
	"MASQUERADE": "nat", "SNAT": "nat", "DNAT": "nat", "REDIRECT": "nat", "NETMAP": "nat",
}

// decision is what an expression does to a packet, if anything.
func decision(e map[string]any) (verdict, target string) {
	for key, value := range e {
		switch key {
		case "accept", "drop", "return":
			return key, ""
		case "reject":
			return "drop", ""
		case "queue":
			return key, ""
		case "xt":
			if m, ok := value.(map[string]any); ok && m["type"] == "target" {
				name, _ := m["name"].(string)
				return xtTargets[name], ""
			}
		case "masquerade", "snat", "redirect", "dnat":
			return "nat", ""
		case "jump", "goto":
			if m, ok := value.(map[string]any); ok {
				target, _ = m["target"].(string)
			}
			return key, target
		}
	}
	return "", ""
}

// String says which rule it is, and how to see it.
func (v Verdict) String() string {
	text := v.Text + " (nft -a list chain " + v.Chain + ")"
	if strings.Contains(v.Text, "chain "+v.Chain) {
		return text
	}
	return "chain " + v.Chain + ": " + text
}

// Insertion is the command that lets a packet through the chain.
func (v Verdict) Insertion(p Packet) string {
	words := []string{"nft insert rule", v.Chain}
	switch {
	case p.In != "" && v.family != "netdev" && v.family != "bridge":
		words = append(words, "iifname", strconv.Quote(p.In))
	case p.Out != "" && v.family != "netdev" && v.family != "bridge":
		words = append(words, "oifname", strconv.Quote(p.Out))
	}
	family := "ip"
	if p.IPv6 {
		family = "ip6"
	}
	switch p.Protocol {
	case "udp":
		to := p.To.String()
		if p.Groups != "" {
			to = p.Groups
		}
		if !p.Own {
			words = append(words, family, "daddr", to)
		}
		switch {
		case p.Port != 0:
			words = append(words, "udp dport", strconv.Itoa(int(p.Port)))
		case p.FromPort != 0 && p.In != "":
			words = append(words, "udp sport", strconv.Itoa(int(p.FromPort)))
		default:
			words = append(words, "meta l4proto udp")
		}
	case "igmp":
		words = append(words, "ip protocol igmp")
	default:
		words = append(words, "icmpv6 type { mld-listener-query, mld-listener-report, mld2-listener-report }")
	}
	return strings.Join(append(words, "accept"), " ")
}
