package main

import (
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"strings"

	"topicast/bridge/multicast"
	"topicast/configs"
	"topicast/mapping"
)

// groupUsage says what the argument GROUP:PORT is.
const groupUsage = `GROUP:PORT is a multicast address and a port: 239.1.2.3:5000, [ff15::7]:5000.
A group of scope link-local may carry its interface: [ff02::7%eth0]:5000.`

// parseGroup reads GROUP:PORT. A zone of the address is the name of an
// interface, and comes back as such.
func parseGroup(text string) (group mapping.Group, zone string, err error) {
	text, zone, err = cutZone(text)
	if err != nil {
		return mapping.Group{}, "", err
	}
	if err := checkArgument("group", text); err != nil {
		return mapping.Group{}, "", err
	}
	group, err = mapping.ParseGroup(text)
	if err != nil {
		return mapping.Group{}, "", usageError(err)
	}
	if _, fixed := group.Fixed(); !fixed {
		return mapping.Group{}, "", usageError(fmt.Errorf("group %q: captures in braces are for rules", text))
	}
	return group, zone, nil
}

// targetUsage says what the argument TARGET:PORT is.
const targetUsage = `TARGET:PORT is a multicast address and a port, 239.1.2.3:5000 or [ff15::7]:5000;
or those of one host, 172.17.33.7:5683; or a broadcast address, 172.17.255.255:6454.
An address of scope link-local may carry its interface: [ff02::7%eth0]:5000.`

// parseTarget reads TARGET:PORT into a rule: a group, or what is an address but none of a group.
func parseTarget(text string) (r mapping.SendRule, zone string, err error) {
	without, zone, err := cutZone(text)
	if err != nil {
		return r, "", err
	}
	if err := checkArgument("target", without); err != nil {
		return r, "", err
	}
	if a, noAddr := netip.ParseAddrPort(without); noAddr != nil || a.Addr().IsMulticast() {
		r.Group, zone, err = parseGroup(text)
		return r, zone, err
	}
	if r.Host, err = mapping.ParseHost(without); err != nil {
		return r, "", usageError(err)
	}
	return r, zone, nil
}

// checkArgument says what is wrong with an address and port that are to be written out. In a
// configuration parts of them may be fields, and the errors there speak of those too.
func checkArgument(what, text string) error {
	wrong := func(format string, args ...any) error {
		return usageError(fmt.Errorf("%s %q: "+format, append([]any{what, text}, args...)...))
	}
	if a, err := netip.ParseAddr(text); err == nil {
		return wrong("has no port; write address:port, as in %s", netip.AddrPortFrom(a, 5000))
	}
	host, port, err := net.SplitHostPort(text)
	if err != nil || strings.Contains(text, "{") {
		return nil // left to package mapping, which knows more slips
	}
	if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
		return wrong("port %q is not 1 to 65535", port)
	}
	if _, err := netip.ParseAddr(host); err != nil && strings.ContainsAny(host, "ghijklmnopqrstuvwxyzGHIJKLMNOPQRSTUVWXYZ") {
		return wrong("%q is a name, and names are not looked up: write the address (getent hosts %[3]s)", host)
	}
	return nil
}

// parseGroups reads GROUP:PORT where it may also be a range.
func parseGroups(text string) (groups mapping.GroupRange, zone string, err error) {
	text, zone, err = cutZone(text)
	if err != nil {
		return groups, "", err
	}
	if groups, err = mapping.ParseGroupRange(text); err != nil {
		return groups, "", usageError(err)
	}
	return groups, zone, nil
}

// cutZone takes the zone out of [ff02::7%eth0]:5000.
func cutZone(text string) (without, zone string, err error) {
	host, rest, ok := strings.Cut(text, "%")
	if !ok {
		return text, "", nil
	}
	end := strings.LastIndex(rest, "]:")
	if end < 1 {
		return "", "", usageError(fmt.Errorf("group %q: a zone stands before the bracket, as in [ff02::7%%eth0]:5000", text))
	}
	return host + rest[end:], rest[:end], nil
}

// joinZone is the one interface that a flag and a zone name.
func joinZone(flag, zone string) (string, error) {
	if flag != "" && zone != "" && flag != zone {
		return "", usageError(fmt.Errorf("the address names the interface %s, and --interface names %s", zone, flag))
	}
	return flag + strings.TrimPrefix(zone, flag), nil
}

// parseSource reads an address of this host, or a prefix that picks one.
func parseSource(text string) (netip.Prefix, error) {
	if strings.Contains(text, "/") {
		p, err := netip.ParsePrefix(text)
		if err != nil {
			return netip.Prefix{}, fmt.Errorf("%q is no prefix such as 192.0.2.0/24", text)
		}
		return p, nil
	}
	a, err := parseAddress(text)
	if err != nil {
		return netip.Prefix{}, err
	}
	return netip.PrefixFrom(a, a.BitLen()), nil
}

// parseAddress reads the address of --source, and tells what else was given.
func parseAddress(text string) (netip.Addr, error) {
	a, err := netip.ParseAddr(text)
	if err == nil && a.Zone() == "" {
		return a, nil
	}
	if err == nil {
		return a, fmt.Errorf("%q: name the interface with --interface %s", text, a.Zone())
	}
	err = fmt.Errorf("%q is no address", text)
	if at, wrong := netip.ParseAddrPort(text); wrong == nil {
		return a, withHint(err, fmt.Sprintf("without the port it is %s", at.Addr()))
	}
	if interfaces, wrong := multicast.Interfaces(); wrong == nil {
		if on, wrong := multicast.ResolveInterface(text, interfaces); wrong == nil {
			var addresses []string
			for _, one := range on.Addresses {
				addresses = append(addresses, one.Prefix.Addr().String())
			}
			hint := fmt.Sprintf("%s is an interface: --interface %[1]s", shellWord(text))
			if len(addresses) > 0 {
				hint += "; its addresses are " + strings.Join(addresses, ", ")
			}
			return a, withHint(err, hint)
		}
	}
	return a, err
}

// compileOne holds a binding and a target to what a rule is held to, so that what
// works in a command works in a rule. It returns the binding with its family.
func compileOne(r mapping.SendRule) (b mapping.Binding, err error) {
	if r.Filter, err = mapping.ParseFilter("#"); err != nil {
		return b, err
	}
	t, err := mapping.Compile([]mapping.SendRule{r}, nil)
	if err == nil {
		return t.Send()[0].Binding, nil
	}
	joined, ok := err.(interface{ Unwrap() []error })
	if !ok {
		return b, usageError(err)
	}
	var faults configs.Errors
	for _, one := range joined.Unwrap() {
		fault, ok := one.(*mapping.Fault)
		if !ok {
			return b, usageError(err)
		}
		faults = append(faults, &configs.Error{Origin: flagOf(fault.Path), Err: fault.Err, Hint: fault.Hint})
	}
	return b, usageError(faults)
}

// flagOf is the flag that says what a key of a rule says: --ttl for send[0].ttl.
func flagOf(path string) string {
	_, key, _ := strings.Cut(path, ".")
	if key == "group" || key == "host" {
		return "TARGET:PORT"
	}
	return "--" + key
}
