package mapping_test

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"topicast/mapping"
)

// faults renders what Compile says, hints and all, a line each.
func faults(t testing.TB, err error) []string {
	t.Helper()
	if err == nil {
		return nil
	}
	joined, ok := err.(interface{ Unwrap() []error })
	if !ok {
		t.Fatalf("%T is not joined of several", err)
	}
	var lines []string
	for _, err := range joined.Unwrap() {
		var fault *mapping.Fault
		if !errors.As(err, &fault) || !errors.Is(err, fault.Err) {
			t.Fatalf("%T is no fault", err)
		}
		line := fault.Error()
		if fault.Hint != "" {
			line += " (" + fault.Hint + ")"
		}
		lines = append(lines, line)
	}
	return lines
}

func TestCompileRefuses(t *testing.T) {
	type change func(r *mapping.SendRule)
	source := func(s string) change {
		return func(r *mapping.SendRule) { r.Binding.Source = prefix(s) }
	}
	sourceOnly := func(s string) change {
		return func(r *mapping.SendRule) { r.Binding.Source, r.Binding.Interface = prefix(s), "" }
	}
	toGroup := func(s string, more ...change) change {
		return func(r *mapping.SendRule) {
			r.Group = group(t, s)
			for _, c := range more {
				c(r)
			}
		}
	}
	noInterface := func(r *mapping.SendRule) { r.Binding.Interface = "" }
	tests := map[string]struct {
		change change
		want   string
	}{
		"no filter":             {func(r *mapping.SendRule) { r.Filter, r.Name = mapping.Filter{}, "x" }, "filter: missing (name the topics to carry, # for all)"},
		"no group":              {func(r *mapping.SendRule) { r.Group = mapping.Group{} }, "group: missing (name a multicast address and port, as in 239.1.2.3:5000; or, in place of group, a host)"},
		"qos 3":                 {func(r *mapping.SendRule) { r.QoS = 3 }, "qos: 3 is not 0, 1 or 2"},
		"ttl 0":                 {func(r *mapping.SendRule) { r.Binding.TTL = 0 }, "ttl: 0 would keep the datagrams on this host; it is 1 to 255 (1 reaches the link the interface is on)"},
		"dscp 64":               {func(r *mapping.SendRule) { r.Binding.DSCP = 64 }, "dscp: 64 is not 0 to 63"},
		"retained 3":            {func(r *mapping.SendRule) { r.Retained = 3 }, "retained: 3 is not once, always or never"},
		"on_down 4":             {func(r *mapping.SendRule) { r.OnDown = 4 }, "on_down: 4 is not spool, latest or drop"},
		"spool of QoS 0":        {func(r *mapping.SendRule) { r.OnDown, r.QoS = mapping.OnDownSpool, 0 }, "on_down: spool keeps messages of QoS 1 and 2 only, and the rule has qos: 0 (use qos: 1, or on_down: latest)"},
		"max_age below 0":       {func(r *mapping.SendRule) { r.MaxAge = -1 }, "max_age: -1ns is less than 0s (0s sets no limit)"},
		"name not UTF-8":        {func(r *mapping.SendRule) { r.Name = "\xff" }, `name: "\xff" holds control characters or is not UTF-8, so it cannot label a metric`},
		"name of two lines":     {func(r *mapping.SendRule) { r.Name = "a\nb" }, `name: "a\nb" holds control characters or is not UTF-8, so it cannot label a metric`},
		"neither source nor if": {noInterface, "source: neither source nor interface: where datagrams leave from is never guessed (name a source, an interface or both; topicast interfaces lists those of this host)"},
		"source multicast":      {source("239.1.1.1/32"), "source: 239.1.1.1 is multicast (a source is an address of this host)"},
		"source multicast net":  {source("224.0.0.0/4"), "source: 224.0.0.0 is multicast (a source is an address of this host)"},
		"source IPv6 multicast": {toGroup("[ff15::1]:1", source("ff02::1/128")), "source: ff02::1 is multicast (a source is an address of this host)"},
		"source unspecified":    {source("0.0.0.0/32"), "source: 0.0.0.0 is no address to send from (name an address of this host, or leave source out and name the interface)"},
		"source :: ":            {toGroup("[ff15::1]:1", source("::/128")), "source: :: is no address to send from (name an address of this host, or leave source out and name the interface)"},
		"source broadcast":      {source("255.255.255.255/32"), "source: 255.255.255.255 is the broadcast address (a source is an address of this host)"},
		"source IPv4 as IPv6":   {source("::ffff:172.17.0.1/128"), "source: ::ffff:172.17.0.1 is an IPv4 address written as IPv6 (write 172.17.0.1)"},
		"source address and net": {source("172.17.0.1/16"),
			"source: 172.17.0.1/16 is an address and a network at once (write 172.17.0.1 for this address, 172.17.0.0/16 for any address of the network)"},
		"source address and any net, no interface": {sourceOnly("172.17.0.1/0"),
			"source: 172.17.0.1/0 is an address and a network at once (write 172.17.0.1 for this address, 0.0.0.0/0 for any address of the network)"},
		"source any, no interface": {sourceOnly("0.0.0.0/0"), "source: every address lies in 0.0.0.0/0, so it picks none (name a network of this host, or an interface)"},
		"source IPv6, group IPv4":  {source("fd17::1/128"), "source: fd17::1 is IPv6, but the group 239.1.1.1:1 is IPv4 (source and group are of one family)"},
		"source IPv4, group IPv6":  {toGroup("[ff15::1]:1", source("172.17.0.0/16")), "source: 172.17.0.0/16 is IPv4, but the group [ff15::1]:1 is IPv6 (source and group are of one family)"},
		"interface is an address": {func(r *mapping.SendRule) { r.Binding.Interface, r.Binding.Source = "172.17.0.1", netip.Prefix{} },
			"interface: 172.17.0.1 is an address, and not the name of an interface (name 172.17.0.1 as the source: the interface is then the one that has it)"},
		"interface is a network": {func(r *mapping.SendRule) { r.Binding.Interface, r.Binding.Source = "172.17.0.0/16", netip.Prefix{} },
			"interface: 172.17.0.0/16 is a network, and not the name of an interface (name 172.17.0.0/16 as the source: the interface is then the one that has it)"},
		"interface is an address beside the source": {func(r *mapping.SendRule) {
			r.Binding.Interface, r.Binding.Source = "fd17::1", netip.MustParsePrefix("172.17.0.1/32")
		},
			"interface: fd17::1 is an address, and not the name of an interface (leave the interface out: it is the one that has the source)"},
		"interface is an address with a zone": {func(r *mapping.SendRule) { r.Binding.Interface = "fe80::1%eth0" },
			"interface: fe80::1%eth0 is an address with a zone (name eth0 as the interface, and the address without it as the source)"},
		"family unknown":   {toGroup("{id}:1"), "group: {id}:1 may be IPv4 or IPv6, and no source tells which (name a source, which tells IPv4 from IPv6; or write [{id}]:port for IPv6)"},
		"capture unknown":  {toGroup("239.1.1.{ident}:1"), "group: {ident} is not a capture of the filter a/{id}/{floor} (captures of the filter: {id}, {floor})"},
		"capture misspelt": {toGroup("239.1.1.{flor}:1"), "group: {flor} is not a capture of the filter a/{id}/{floor} (did you mean {floor}?)"},
		"link-local, no interface": {toGroup("[ff02::{id}]:1", sourceOnly("fd17::1/128")),
			"interface: the group [ff02::{id}]:1 is another one on each interface, so the rule must name the interface"},
		"transient link-local": {toGroup("[ff12::1]:1", sourceOnly("fe80::1/128")),
			"interface: the group [ff12::1]:1 is another one on each interface, so the rule must name the interface"},
		"interface-local": {toGroup("[ff01::1]:1", sourceOnly("::1/128")),
			"interface: the group [ff01::1]:1 is another one on each interface, so the rule must name the interface"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			bad := rule(t, "a/{id}/{floor}", "239.1.1.1:1")
			tt.change(&bad)
			table, err := mapping.Compile([]mapping.SendRule{rule(t, "good", "239.1.1.1:1"), bad}, nil)
			if diff := cmp.Diff([]string{"send[1]." + tt.want}, faults(t, err)); diff != "" || table != nil {
				t.Errorf("table %v, (-want +got):\n%s", table, diff)
			}
		})
	}
}

func TestCompileTakes(t *testing.T) {
	for _, tt := range []struct{ iface, source, group string }{
		{"iso0", "", "239.1.1.1:1"},
		{"", "172.17.0.1/32", "239.1.1.1:1"},
		{"", "172.17.0.0/16", "239.1.1.1:1"},
		{"", "127.0.0.2/32", "239.1.1.1:1"},
		{"iso0", "0.0.0.0/0", "{x}:1"},
		{"", "172.17.0.1/32", "{x}:1"},
		{"", "fd17::/64", "{x}:1"},
		{"iso0", "", "[{x}]:1"},
		{"iso0", "", "[ff02::1]:1"},
		{"iso0", "fe80::1/128", "[ff02::1]:1"},
		{"", "fd17::1/128", "[ff05::1]:1"},
		{"", "fd17::1/128", "[{x}::1]:1"},
		{"", "fd17::1/128", "[{x}]:1"},
		{"", "172.17.0.1/32", "224.0.0.1:1"},
	} {
		r := rule(t, "a/{x}", tt.group)
		r.Binding.Interface, r.Binding.Source = tt.iface, netip.Prefix{}
		if tt.source != "" {
			r.Binding.Source = prefix(tt.source)
		}
		if _, err := mapping.Compile([]mapping.SendRule{r}, nil); err != nil {
			t.Errorf("%+v: %v", tt, err)
		}
	}
}

func TestCompileReportsEveryFaultAtOnce(t *testing.T) {
	worst := rule(t, "a/{id}", "239.1.1.{a+b}:1")
	worst.QoS, worst.Binding = 9, mapping.Binding{DSCP: 99, Source: prefix("ff02::1/128")}
	rules := []mapping.SendRule{
		worst,
		rule(t, "a/b", "239.1.1.1:1"),
		rule(t, "a/b", "239.1.1.2:1"),
		named(rule(t, "c", "239.1.1.1:1"), "lamps"),
		named(rule(t, "d", "239.1.1.1:1"), "lamps"),
		{},
	}
	_, err := mapping.Compile(rules, nil)
	want := []string{
		"send[0].qos",
		"send[0].ttl",
		"send[0].dscp",
		"send[0].source", // multicast
		"send[0].source", // and IPv6
		"send[0].group",  // {a}
		"send[0].group",  // {b}
		`send[2].name: "a/b" is the name of send[1] too (a rule without a name has its filter for one; name one of the two)`,
		`send[4].name: "lamps" is the name of send[3] too`,
		"send[5].filter",
		"send[5].source",
		"send[5].ttl",
		"send[5].group",
	}
	got := faults(t, err)
	for i := range got {
		if i < len(want) && !strings.Contains(want[i], ":") {
			got[i], _, _ = strings.Cut(got[i], ":")
		}
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestParseRetained(t *testing.T) {
	for want, text := range []string{"once", "always", "never"} {
		var r mapping.Retained
		if err := r.UnmarshalText([]byte(text)); err != nil || r != mapping.Retained(want) {
			t.Errorf("%s: %v, %v", text, r, err)
		}
		if got, err := r.MarshalText(); err != nil || string(got) != text {
			t.Errorf("%s became %s, %v", text, got, err)
		}
	}
	for text, says := range map[string]string{"": "not once, always or never", "alway": "did you mean always", "Once": "did you mean once", "keep": "not once"} {
		if _, err := mapping.ParseRetained(text); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%q: %v", text, err)
		}
	}
	if got := mapping.Retained(7).String(); got != "Retained(7)" {
		t.Error(got)
	}
}

func TestParseDSCP(t *testing.T) {
	for text, want := range map[string]uint8{
		"0": 0, "63": 63, "46": 46, "EF": 46, "ef": 46, "CS0": 0, "CS5": 40, "CS7": 56, "AF11": 10, "AF13": 14, "AF41": 34, "AF43": 38,
		"VA": 44, "Voice-Admit": 44, "LE": 1, "BE": 0, "DF": 0,
	} {
		if got, err := mapping.ParseDSCP(text); err != nil || got != want {
			t.Errorf("%s: %d, %v", text, got, err)
		}
	}
	for class := 1; class <= 4; class++ { // RFC 2597: AFxy is 8x + 2y
		for drop := 1; drop <= 3; drop++ {
			text := fmt.Sprintf("AF%d%d", class, drop)
			if got, err := mapping.ParseDSCP(text); err != nil || int(got) != 8*class+2*drop {
				t.Errorf("%s: %d, %v", text, got, err)
			}
		}
	}
	for _, text := range []string{"", "64", "-1", "184", "256", "AF44", "AF51", "CS8", "1.5", "0x2e", " EF"} {
		if got, err := mapping.ParseDSCP(text); err == nil || !strings.Contains(err.Error(), "0 to 63") {
			t.Errorf("%q: %d, %v", text, got, err)
		}
	}
}

func TestOneFixedSourcePortIsOneSocket(t *testing.T) {
	with := func(name string, changes ...func(*mapping.Binding)) mapping.SendRule {
		r := mapping.SendRule{Name: name, Filter: filter(t, name), Group: group(t, "239.1.2.3:5000"),
			Binding: mapping.Binding{Interface: "iso0", Source: prefix("172.17.0.1/32"), SourcePort: 5000, TTL: 1}}
		for _, change := range changes {
			change(&r.Binding)
		}
		return r
	}
	ttl := func(b *mapping.Binding) { b.TTL = 2 }
	nowhere := func(b *mapping.Binding) { b.Interface = "" }
	const fault = "send[1].source_port: 5000 is the port of send[0] too, whose datagrams leave in another way, and one port is one socket " +
		"(let both have the same interface, ttl, loopback, dscp and oversize, and both send to groups or both to hosts; or another port)"
	for name, test := range map[string]struct {
		second mapping.SendRule
		want   []string
	}{
		"the same binding":  {with("b"), nil},
		"another ttl":       {with("b", ttl), []string{fault}},
		"without interface": {with("b", nowhere), []string{fault}},
		"another port":      {with("b", ttl, func(b *mapping.Binding) { b.SourcePort = 5001 }), nil},
		"any port":          {with("b", ttl, func(b *mapping.Binding) { b.SourcePort = 0 }), nil},
		"another source":    {with("b", ttl, func(b *mapping.Binding) { b.Source = prefix("172.17.0.2/32") }), nil},
	} {
		_, err := mapping.Compile([]mapping.SendRule{with("a"), test.second}, nil)
		if diff := cmp.Diff(test.want, faults(t, err)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
}
