package main

import (
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net/netip"
	"regexp"
	"strconv"
	"strings"
	"time"

	"topicast/internal/recognise"
)

const (
	shownSenders = 5  // in a comment
	commentWidth = 96 // columns of one, without its indentation
	maxListed    = 16 // groups that others have joined
)

// printConfiguration prints a rule for each flow with its reasons. What is said of a flow is
// one line each; nothing that came from the network is in it but addresses, numbers and
// printable ASCII.
func (l *learner) printConfiguration(out, errOut io.Writer) error {
	flows, leftOut := l.found()
	list := rules(flows)
	var b strings.Builder
	how := "in well-known groups alone"
	if l.packets {
		how = "in all groups, in broadcasts, and at this host"
	}
	fmt.Fprintf(&b, "# What topicast learn heard on %s in %v, %s, until %s.\n", l.on.Name, l.took.Round(time.Second), how, time.Now().Format(time.RFC3339))
	b.WriteString("# Read it, say where the broker is, and choose topics; then topicast check.\n")
	b.WriteString("broker:\n  url: mqtt://localhost:1883\n\n")
	names := make(map[string]int)
	active := 0
	for _, r := range list {
		if r.leave == "" {
			active++
		}
	}
	if active == 0 {
		b.WriteString("# ")
	}
	b.WriteString("receive:\n")
	for _, r := range list {
		r.print(&b, l, names, active == 0)
	}
	l.printSilent(&b)
	if leftOut > 0 {
		comment(&b, "", fmt.Sprintf("Left out: %s of this host to which something came that is nothing known.", count(leftOut, "port")))
	}
	if _, err := io.WriteString(out, b.String()); err != nil {
		return err
	}
	switch {
	case len(flows) == 0:
		return withHint(fmt.Errorf("nothing was heard on %s but what came to this host itself and is nothing known", l.on.Name), l.whyNothing())
	case active == 0:
		printWarning(errOut, "all rules are commented out, since what was heard belongs to its network alone: see the reason with each")
	}
	return nil
}

// print prints a rule, with what is known of its flows above it.
func (r *learntRule) print(b *strings.Builder, l *learner, names map[string]int, last bool) {
	b.WriteByte('\n')
	for _, f := range r.flows {
		comment(b, "  ", f.summary(l))
	}
	comment(b, "  ", "Why: "+strings.Join(r.flows[0].reasons(), "; ")+".")
	for _, n := range r.notes {
		comment(b, "  ", n)
	}
	if r.leave != "" {
		comment(b, "  ", "Commented out: "+r.leave+".")
	}
	name := r.name
	if names[r.name]++; names[r.name] > 1 {
		name += " " + strconv.Itoa(names[r.name])
	}
	lines := []string{"- name: " + name}
	lines = append(lines, r.heard(), "  interface: "+yamlWord(l.on.Name), "  topic: "+yamlWord(r.topic))
	for _, k := range r.keys {
		lines = append(lines, "  "+k)
	}
	for _, line := range lines {
		if r.leave != "" {
			line = "# " + line
		}
		b.WriteString("  " + line + "\n")
	}
}

// heard is the key group or port.
func (r *learntRule) heard() string {
	if first := r.flows[0].to; !first.Addr().IsMulticast() {
		return fmt.Sprintf("  port: %d", first.Port())
	}
	var groups []string
	for _, f := range r.flows {
		groups = append(groups, yamlWord(f.to.String()))
	}
	if len(groups) == 1 {
		return "  group: " + groups[0]
	}
	return "  group: [" + strings.Join(groups, ", ") + "]"
}

// summary is "sACN, universe 1, to 239.255.0.1:5568: 44.0/s from 10.77.0.2, 638 bytes".
func (f *heardFlow) summary(l *learner) string {
	var b strings.Builder
	b.WriteString(string(f.Protocol))
	if f.Protocol == recognise.Unknown {
		fmt.Fprintf(&b, ", %s", f.Content)
	}
	if len(f.Kinds) > 0 {
		b.WriteString(" (" + strings.Join(f.Kinds, "; ") + ")")
	}
	fmt.Fprintf(&b, ", to %s: %s/s", f.where(), f.rate(l))
	fmt.Fprintf(&b, " from %s", f.sendersText())
	if f.least == f.most {
		fmt.Fprintf(&b, ", %s each", count(f.most, "byte"))
	} else {
		fmt.Fprintf(&b, ", %d to %d bytes", f.least, f.most)
	}
	if len(f.Others) > 0 {
		fmt.Fprintf(&b, "; of them are %v also: %d %% are not", f.Others, 100-f.Share)
	}
	if f.Protocol == recognise.Unknown && len(f.begins) > 0 {
		fmt.Fprintf(&b, ", the first began with %s", hex.EncodeToString(f.begins))
	}
	return b.String()
}

// where is the group, or the port with how it was addressed.
func (f *heardFlow) where() string {
	switch {
	case f.to.Addr().IsMulticast():
		return f.to.String()
	case f.unicasts == 0:
		return fmt.Sprintf("port %d by broadcast", f.to.Port())
	case f.broadcast == 0:
		return fmt.Sprintf("port %d of this host", f.to.Port())
	}
	return fmt.Sprintf("port %d of this host and by broadcast", f.to.Port())
}

// rate is "44.0" or "0.03".
func (f *heardFlow) rate(l *learner) string {
	return strconv.FormatFloat(float64(f.datagrams)/max(l.took.Seconds(), 1e-3), 'g', 3, 64)
}

func (f *heardFlow) sendersText() string {
	var words []string
	for _, a := range f.senderList(shownSenders) {
		words = append(words, a.String())
	}
	text := strings.Join(words, ", ")
	switch more := len(f.senders) - len(words); {
	case f.moreSenders:
		text += fmt.Sprintf(" and %d or more others", more+1)
	case more > 0:
		text += fmt.Sprintf(" and %d more", more)
	}
	return text
}

// reasons are why the flow is taken for what it is.
func (f *heardFlow) reasons() []string {
	if len(f.Evidence) == 0 {
		return []string{"its bytes are those of nothing that is known"}
	}
	return f.Evidence
}

// printSilent lists what others have joined and nobody sent to.
func (l *learner) printSilent(b *strings.Builder) {
	groups := l.silent()
	if len(groups) == 0 {
		return
	}
	b.WriteByte('\n')
	comment(b, "", "Joined by others, and nothing was heard there:")
	for _, g := range groups[:min(len(groups), maxListed)] {
		var hosts []string
		for _, h := range l.members[g] {
			hosts = append(hosts, h.String())
		}
		comment(b, "", fmt.Sprintf("  %s by %s", g, strings.Join(hosts, ", ")))
	}
	if more := len(groups) - maxListed; more > 0 {
		comment(b, "", fmt.Sprintf("  and %d more", more))
	}
}

// comment writes a comment of one line or more.
func comment(b *strings.Builder, indent, text string) {
	line := indent + "#"
	lead := len(text) - len(strings.TrimLeft(text, " "))
	line += strings.Repeat(" ", lead)
	began := len(line)
	for word := range strings.FieldsSeq(text) {
		if len(line) > began && len(line)+1+len(word) > commentWidth {
			b.WriteString(line + "\n")
			line = indent + "#  "
			began = len(line)
		}
		line += " " + word
	}
	b.WriteString(line + "\n")
}

var plainWord = regexp.MustCompile(`^[A-Za-z][A-Za-z0-9_./{}@-]*$|^[0-9]+\.[0-9.]+:[0-9]+$`)

// yamlWord is a text as YAML has it.
func yamlWord(text string) string {
	if plainWord.MatchString(text) {
		return text
	}
	return strconv.Quote(text)
}

// learntJSON, flowJSON and memberJSON are what --json prints. Names may be added to them, not
// changed.
type learntJSON struct {
	Interface    string       `json:"interface"`
	Seconds      float64      `json:"seconds"`
	PacketSocket bool         `json:"packet_socket"` // all groups were heard that the network brought
	Joined       int          `json:"joined"`
	Lost         uint64       `json:"lost"`        // packets that came too fast
	Beyond       uint64       `json:"beyond"`      // datagrams of more groups and ports than are kept
	Unexplained  int          `json:"unexplained"` // ports of this host that something unknown came to
	Flows        []flowJSON   `json:"flows"`
	Members      []memberJSON `json:"members"`
}

type flowJSON struct {
	Group        *netip.AddrPort      `json:"group,omitempty"`
	Port         uint16               `json:"port,omitempty"` // in its place, of what came to this host or by broadcast
	Unicast      uint64               `json:"unicast,omitempty"`
	Broadcast    uint64               `json:"broadcast,omitempty"`
	Protocol     recognise.Protocol   `json:"protocol"`
	Kinds        []string             `json:"kinds"`
	Evidence     []string             `json:"evidence"`
	Others       []recognise.Protocol `json:"others"`
	Perhaps      recognise.Protocol   `json:"perhaps,omitempty"`
	Datagrams    uint64               `json:"datagrams"`
	Rate         float64              `json:"rate"` // a second
	Senders      int                  `json:"senders"`
	MoreSenders  bool                 `json:"more_senders"` // there are more than are counted
	FirstSenders []netip.Addr         `json:"first_senders"`
	SizeMin      int                  `json:"size_min"` // bytes
	SizeMax      int                  `json:"size_max"`
	Content      recognise.Content    `json:"content"`
	Begins       string               `json:"begins"` // hexadecimal
	Topic        string               `json:"topic"`
	LeftOut      string               `json:"left_out,omitempty"` // why its rule is commented out
}

type memberJSON struct {
	Group netip.Addr   `json:"group"`
	Hosts []netip.Addr `json:"hosts"`
}

func (l *learner) printJSON(out io.Writer) error {
	flows, leftOut := l.found()
	j := learntJSON{Interface: l.on.Name, Seconds: l.took.Seconds(), PacketSocket: l.packets, Joined: l.joined, Lost: l.lost, Beyond: l.beyond,
		Unexplained: leftOut, Flows: []flowJSON{}, Members: []memberJSON{}}
	for _, f := range flows {
		a := advise(f)
		one := flowJSON{Unicast: f.unicasts, Broadcast: f.broadcast, Protocol: f.Protocol, Kinds: append([]string{}, f.Kinds...), Evidence: f.reasons(),
			Others: append([]recognise.Protocol{}, f.Others...), Perhaps: f.Perhaps, Datagrams: f.datagrams, Rate: float64(f.datagrams) / max(l.took.Seconds(), 1e-3),
			Senders: len(f.senders), MoreSenders: f.moreSenders, FirstSenders: f.senderList(shownSenders), SizeMin: f.least, SizeMax: f.most,
			Content: f.Content, Begins: hex.EncodeToString(f.begins), Topic: a.topic, LeftOut: a.leave}
		if f.to.Addr().IsMulticast() {
			one.Group = &f.to
		} else {
			one.Port = f.to.Port()
		}
		j.Flows = append(j.Flows, one)
	}
	for _, g := range l.joinedByOthers() {
		j.Members = append(j.Members, memberJSON{g, l.members[g]})
	}
	e := json.NewEncoder(out)
	e.SetIndent("", "  ")
	return e.Encode(j)
}
