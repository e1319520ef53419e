package mapping_test

import (
	"errors"
	"net/netip"
	"strings"
	"testing"

	"topicast/mapping"
)

// toTarget is a rule to a group, or with host: to a host.
func toTarget(t testing.TB, filter, to string) mapping.SendRule {
	t.Helper()
	text, host := strings.CutPrefix(to, "host ")
	if !host {
		return rule(t, filter, text)
	}
	r := rule(t, filter, "239.1.1.1:1")
	h, err := mapping.ParseHost(text)
	if err != nil {
		t.Fatal(err)
	}
	r.Group, r.Host, r.Binding.Loopback = mapping.Group{}, h, true
	return r
}

func TestTargetsFromPayloads(t *testing.T) {
	text := func(s string) string { return s + strings.Repeat("\x00", 16-len(s)) }
	for _, c := range []struct{ to, payload, want string }{
		{"239.10.{u8@4}.{json:/id}:30000", `{"id":7}`, "239.10.34.7:30000"}, // the fifth byte is a "
		{"239.1.1.{u8@1}:5000", "\x00\x07", "239.1.1.7:5000"},
		{"239.{n}.{u8@0}.1:{u16@1}", "\x05\x13\x88", "239.3.5.1:5000"},
		{"239.1.1.{u8@0 & 0x0f | n << 4}:{30000 + u16le@1}", "\xf5\x01\x00", "239.1.1.53:30001"},
		{"239.1.1.{json:/a}:{json:/p}", `{"a":"12","p":5000}`, "239.1.1.12:5000"},
		{"239.1.1.{text@0:3}:5000", "017", "239.1.1.17:5000"},
		{"239.1.1.{text@0:3}:5000", "9\x00\x00", "239.1.1.9:5000"},
		{`239.1.1.{json:"/a b"}:5000`, `{"a b":1}`, "239.1.1.1:5000"},
		{"[ff15::{u16@0}]:{u16@2}", "\xab\xcd\x00\x09", "[ff15::abcd]:9"},
		{"{json:/ip}:5000", `{"ip":"239.1.2.3"}`, "239.1.2.3:5000"},
		{"[{json:/ip}]:5000", `{"ip":"ff15::9"}`, "[ff15::9]:5000"},
		{"{text@0:16}:{n}", text("239.1.2.3"), "239.1.2.3:3"},
		{"host 10.0.0.{json:/addr}:{u16@2 & 0xff}", `{"addr":7}`, "10.0.0.7:100"},
		{"host {json:/ip}:5000", `{"ip":"192.0.2.7"}`, "192.0.2.7:5000"},
		{"host {u8@0}.{u8@1}.{u8@2}.{u8@3}:{u16@4}", "\x0a\x00\x00\x07\x13\x88", "10.0.0.7:5000"},
		{"host [2001:db8::{u16@0}]:5000", "\x00\x0a", "[2001:db8::a]:5000"},
		// what is not there
		{"239.1.1.{u8@1}:5000", "x", "{u8@1} is behind the end of a payload of 1 bytes, not there"},
		{"239.1.1.1:{json:/p}", `{}`, "{json:/p} is no field (json: no /p: the document is an object without it), not there"},
		{"239.1.1.1:{json:/p}", `{"p":1,"p":2}`, "nobody can tell which counts"},
		{"239.1.1.1:{json:/p}", `{"p":`, "{json:/p} is no field"},
		{"{json:/ip}:5000", `{"ip":null}`, "{json:/ip} is no field"},
		{"{text@0:16}:5000", "short", "{text@0:16} is behind the end"},
		// what is no number, or leaves its bounds
		{"239.1.1.{json:/id}:5000", `{"id":"x"}`, `{json:/id} is "x", not a whole number`},
		{"239.1.1.{json:/id}:5000", `{"id":1.5}`, `{json:/id} is "1.5", not a whole number`},
		{"239.1.1.{json:/id}:5000", `{"id":256}`, "{json:/id} is 256, not 0 to 255"},
		{"239.1.1.{json:/id}:5000", `{"id":-1}`, "{json:/id} is -1, not 0 to 255"},
		{"239.1.1.{i8@0}:5000", "\xff", "{i8@0} is -1, not 0 to 255"},
		{"239.1.1.{text@0:2}:5000", "-1", `{text@0:2} is "-1", not a whole number`},
		{"239.1.1.{u64@0}:5000", "\xff\xff\xff\xff\xff\xff\xff\xff", "{u64@0} is a larger number, not a whole number of 63 bits"},
		{"239.1.1.{u8@0 / u8@1}:5000", "\x01\x00", "{u8@0 / u8@1} is a division by zero, not 0 to 255"},
		{"239.1.1.1:{u16@0}", "\x00\x00", "{u16@0} is 0, not 1 to 65535"},
		// never another kind of address
		{"{u8@0}.1.1.1:5000", "\x0a", "the address is 10.1.1.1, not an IPv4 multicast address"},
		{"{json:/ip}:5000", `{"ip":"192.0.2.7"}`, "the address is 192.0.2.7, not an IPv4 multicast address"},
		{"{json:/ip}:5000", `{"ip":"ff15::1"}`, `{json:/ip} is "ff15::1", not an IPv4 address`},
		{"[{json:/ip}]:5000", `{"ip":"ff02::1%eth0"}`, `{json:/ip} is "ff02::1%eth0", not an IPv6 address without a zone`},
		{"{json:/ip}:5000", `{"ip":"239.1.2.3` + strings.Repeat("0", 100) + `"}`, `{json:/ip} is "239.1.2.300000000000...", not an IPv4 address`},
		{"{json:/ip}:5000", `{"ip":""}`, `{json:/ip} is "", not an IPv4 address`},
		{"{json:/ip}:5000", `{"ip":{}}`, `{json:/ip} is "{}", not an IPv4 address`},
		{"host {u8@0}.1.1.1:5000", "\xef", "the address is 239.1.1.1, not a host"},
		{"host {u8@0}.1.1.1:5000", "\x00", "the address is 0.1.1.1, not an address of a host"},
		{"host 255.255.255.{u8@0}:9", "\xff", "the address is 255.255.255.255, not one host"},
		{"host {json:/ip}:9", `{"ip":"255.255.255.255"}`, "the address is 255.255.255.255, not one host"},
		{"host {json:/ip}:9", `{"ip":"224.0.0.1"}`, "the address is 224.0.0.1, not a host"},
		{"host [{json:/ip}]:9", `{"ip":"::ffff:192.0.2.7"}`, "the address is ::ffff:192.0.2.7, not an IPv4 address written as such"},
		{"host [{json:/ip}]:9", `{"ip":"ff02::1"}`, "the address is ff02::1, not a host"},
	} {
		r := toTarget(t, "d/{n}/#", c.to)
		r.Binding.Source = prefix("172.17.0.1/32")
		if six, _ := r.To().Family(); six {
			r.Binding.Source = prefix("fd17::1/128")
		}
		table, err := mapping.Compile([]mapping.SendRule{r}, nil)
		if err != nil {
			t.Errorf("%s: %v", c.to, err)
			continue
		}
		target := table.Lookup("d/3/x", nil)[0]
		if target.ByPayload == nil || target.To.IsValid() || target.Err != nil || !table.Send()[0].To().VariesByPayload() {
			t.Errorf("%s: %+v does not vary by the payload", c.to, target)
			continue
		}
		payload := []byte(c.payload)
		to, err := target.ByPayload.Of(payload, nil)
		if err == nil {
			if to.String() != c.want {
				t.Errorf("%s of %.40q: %s, want %s", c.to, c.payload, to, c.want)
			}
			if n := testing.AllocsPerRun(100, func() { _, _ = target.ByPayload.Of(payload, nil) }); n > 0 && !raced {
				t.Errorf("%s: %v allocations", c.to, n)
			}
			continue
		}
		why, ok := errors.AsType[*mapping.GroupError](err)
		if !ok || to.IsValid() || why.Host != strings.HasPrefix(c.to, "host ") || why.Topic != "d/3/x" || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s of %.40q: %s, %v; want %s", c.to, c.payload, to, err, c.want)
		}
	}
}

func TestFieldsOfTargetsThatAreRefused(t *testing.T) {
	for _, c := range []struct{ to, says string }{
		{"239.1.1.{u24@0}:5000", "u24@ is no field of a payload"},
		{"239.1.1.{text@0}:5000", "text@0 has no length"},
		{"239.1.1.{hex@0:4}:5000", "{hex@0:4}: hex@0:4 is a text, and here a number is wanted; write u8@0"},
		{"239.1.1.1:{1+hex@0:4}", "{1+hex@0:4}: hex@0:4 is a text"},
		{"239.1.1.{json:id}:5000", "a JSON pointer begins with /"},
		{"239.1.1.{serial@4}:5000", "serial@ is no field of a payload"},
		{"239.1.1.{u8@70000}:5000", "is more than the 65507 bytes"},
		{"{u32@0}:5000", "{u32@0} is a number, not an address; write {u8@0}.{u8@1}.{u8@2}.{u8@3}"},
		{"{hex@4:4}:5000", "{hex@4:4} is no address; write {u8@4}.{u8@5}.{u8@6}.{u8@7}"},
		{"{json:/ip + 1}:5000", "is a number, not an address; only a capture or a field alone"},
		{"239.1.1.1{u8@0}:5000", "is no IPv4 address"},
		{"10.1.1.{u8@0}:5000", "is not an IPv4 multicast address"},
		{"host 239.1.1.{u8@0}:5000", "is not a host"},
		{"239.1.1.{u8@0}", "has no port"},
		{"239.1.1.{json:/a}", "has no port"},
		{"ff15::{hex@0:4}:5000", "an IPv6 address stands in brackets"},
		{"239.1.1." + "{u8@0+u8@1+u8@2+u8@3+u8@4+u8@5+u8@6+u8@7+u8@8+u8@9+u8@10+u8@11+u8@12+u8@13}:{u8@20+u8@21+u8@22}", "has 17 fields of the payload, and may have 16"},
	} {
		text, host := strings.CutPrefix(c.to, "host ")
		_, err := mapping.ParseGroup(text)
		if host {
			_, err = mapping.ParseHost(text)
		}
		if err == nil || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %v; want %s", c.to, err, c.says)
		}
	}
}

// What there is one of for each topic cannot be had where a topic has several targets.
func TestWhatIsOneForATopicIsRefusedWithFields(t *testing.T) {
	latest := func(r *mapping.SendRule) { r.OnDown = mapping.OnDownLatest }
	over := func(r *mapping.SendRule) { r.Rate, _ = mapping.ParseRate("1/s"); r.WhenOver = mapping.OverLatest }
	refresh := func(r *mapping.SendRule) { r.Refresh = 1e9 }
	for _, c := range []struct {
		to, path string
		with     func(*mapping.SendRule)
	}{
		{"239.1.1.{u8@0}:5000", "send[0].on_down", latest},
		{"239.1.1.1:{json:/port}", "send[0].on_down", latest},
		{"host 10.0.0.{u8@0}:5000", "send[0].when_over", over},
		{"239.1.1.{u8@0}:5000", "send[0].refresh", refresh},
		{"239.1.1.{n}:5000", "", func(r *mapping.SendRule) { latest(r); over(r); refresh(r) }},
	} {
		r := toTarget(t, "d/{n}", c.to)
		c.with(&r)
		_, err := mapping.Compile([]mapping.SendRule{r}, nil)
		fault, _ := errors.AsType[*mapping.Fault](err)
		if c.path == "" && err != nil || c.path != "" && (fault == nil || fault.Path != c.path || fault.Hint == "") {
			t.Errorf("%s: %v, want a fault of %q", c.to, err, c.path)
		}
	}
}

func TestAMissingCaptureBesideFields(t *testing.T) {
	_, err := mapping.Compile([]mapping.SendRule{rule(t, "d/{id}", "239.{u8@0}.{ib}.1:{u16@2}")}, nil)
	if fault, _ := errors.AsType[*mapping.Fault](err); fault == nil || fault.Path != "send[0].group" || fault.Hint != "did you mean {id}?" {
		t.Errorf("%v", err)
	}
	r := rule(t, "d", "{json:/ip}:5000")
	r.Binding.Source, r.Binding.Interface = netip.Prefix{}, "iso0"
	_, err = mapping.Compile([]mapping.SendRule{r}, nil)
	if fault, _ := errors.AsType[*mapping.Fault](err); fault == nil || !strings.Contains(fault.Hint, "[{json:/ip}]:port for IPv6") {
		t.Errorf("%v", err)
	}
}

// For the search for loops a field may be anything.
func TestFieldsMayLeadBack(t *testing.T) {
	for text, want := range map[string]string{
		"a/# > 239.1.1.{u8@0}:5000\n239.1.1.7:5000 > a/b":    "s0 r0",
		"a/# > 239.1.1.1:{json:/p}\n239.1.1.1:5000 > a/b":    "s0 r0",
		"a/# > {json:/ip}:5000\n239.9.9.9:5000 > a/b":        "s0 r0",
		"a/# > [{json:/ip}]:5000\n[ff15::77]:5000 > a/b":     "s0 r0",
		"a/# > 239.1.1.{u8@0}:5000\n239.1.2.7:5000 > a/b":    "",
		"a/# > 239.1.1.{json:/id}:5000\n239.1.1.7:5001 > a/": "",
	} {
		send, receive := bothWays(t, text)
		table, err := mapping.Compile(send, receive)
		if err != nil {
			t.Errorf("%s: %v", text, err)
			continue
		}
		if got := onCycle(table); got != want {
			t.Errorf("%s: %q on a cycle, want %q", text, got, want)
		}
	}
}

// FuzzTarget holds that whatever a payload has: a group comes out that is multicast, or a host
// that is none and no broadcast, of the rule's family and with a port; or an error.
func FuzzTarget(f *testing.F) {
	for _, s := range []string{"239.10.{u8@4}.{json:/id}:30000", "{json:/ip}:{u16@2}", "[{text@0:12}]:5000", "10.0.0.{json:/addr}:{u16le@2}",
		"{u8@0}.{u8@1}.{u8@2}.{u8@3}:{u16@4}", "[{u16@0}::{i32@4 & 0xff}]:9", "255.255.255.{u8@0}:{a}", `239.1.1.{json:"/a b" * 2}:1`} {
		f.Add(s, "7", []byte(`{"id":7,"ip":"224.0.0.1","addr":"255","a b":-2}`))
		f.Add(s, "239.1.1.1", []byte("\xff\xff\xff\xff\xff\xff\xff\xff239.1.1.1"))
		f.Add(s, "x", []byte(`{"ip":"::ffff:239.1.1.1"}`))
	}
	f.Fuzz(func(t *testing.T, text, capture string, payload []byte) {
		var rules []mapping.SendRule
		if group, err := mapping.ParseGroup(text); err == nil {
			r := rule(t, "f", "239.1.1.1:1")
			r.Group = group
			rules = append(rules, r)
		}
		if host, err := mapping.ParseHost(text); err == nil {
			r := rule(t, "f", "239.1.1.1:1")
			r.Group, r.Host, r.Binding.Loopback = mapping.Group{}, host, true
			rules = append(rules, r)
		}
		topic := strings.ReplaceAll(capture, "/", "")
		for _, r := range rules {
			filterText := "t"
			of := topic
			for _, name := range r.To().Captures() {
				filterText += "/{" + name + "}"
			}
			of = "t" + strings.Repeat("/"+topic, len(r.To().Captures()))
			filter, err := mapping.ParseFilter(filterText)
			if err != nil {
				continue
			}
			r.Filter = filter
			for _, source := range []string{"172.17.0.1/32", "fd17::1/128"} {
				r.Binding.Source, r.Binding.Interface = prefix(source), "iso0"
				table, err := mapping.Compile([]mapping.SendRule{r}, nil)
				if err != nil {
					continue
				}
				for _, target := range table.Lookup(of, nil) {
					to, err := target.To, target.Err
					if target.ByPayload != nil {
						to, err = target.ByPayload.Of(payload, nil)
					}
					a, compiled := to.Addr(), table.Send()[0]
					switch {
					case (err == nil) != to.IsValid():
						t.Errorf("%q for %q of %q: %s and error %v", text, of, payload, to, err)
					case err != nil:
					case to.Port() == 0 || a.Zone() != "" || a.Is4In6() || a.IsUnspecified() || a.Is6() != compiled.Binding.IPv6:
						t.Errorf("%q for %q of %q: %s is no target of the rule", text, of, payload, to)
					case a.IsMulticast() == compiled.Binding.Host:
						t.Errorf("%q for %q of %q: %s is of the other kind", text, of, payload, to)
					case a == netip.AddrFrom4([4]byte{255, 255, 255, 255}) && !compiled.Broadcasts():
						t.Errorf("%q for %q of %q: %s is all hosts", text, of, payload, to)
					case !compiled.To().Reaches(to):
						t.Errorf("%q for %q of %q: %s, which the search for loops takes for impossible", text, of, payload, to)
					}
				}
			}
		}
	})
}
