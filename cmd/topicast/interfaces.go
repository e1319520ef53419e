package main

import (
	"encoding/json"
	"io"
	"net/netip"
	"strings"

	"github.com/spf13/cobra"

	"topicast/bridge/multicast"
)

func newInterfacesCommand() *cobra.Command {
	var asJSON bool
	c := &cobra.Command{
		Use:   "interfaces",
		Short: "List the interfaces and addresses that a rule can name",
		Long: `List the interfaces of this host and their addresses, and the state they are in.

A send rule names an interface, a source, or both:

  interface: eth1           its primary address is the source
  interface: eth1:1         the address that has this label is the source
  source: 192.0.2.7         the interface that has this address
  source: 192.0.2.0/24      the address that lies in this network

A receive rule names the interface to join on, or an address that it has:

  interface: eth1
  interface: 192.0.2.7

For the name of an interface, an alternative name stands as well (also in NOTES).

State: up, down (set so by somebody), or no carrier (the cable or the peer is
missing; what is sent then is lost without an error).

Notes: secondary and temporary addresses are used only if a rule names them;
a tentative one is still being checked for duplicates; a duplicate belongs to
another host too and cannot be used; a deprecated one is on its way out. On a port
of a bridge or a member of a bond nothing is heard: a receive rule names the bridge
or the bond. Sending works on both.`,
		Example: `  topicast interfaces
  topicast interfaces --json`,
		RunE: func(c *cobra.Command, _ []string) error {
			return runInterfaces(asJSON, c.OutOrStdout())
		},
	}
	c.Flags().BoolVar(&asJSON, "json", false, "print a JSON array")
	return c
}

func runInterfaces(asJSON bool, out io.Writer) error {
	interfaces, err := multicast.Interfaces()
	if err != nil {
		return err
	}
	if asJSON {
		return printInterfacesJSON(out, interfaces)
	}
	return printInterfaces(out, interfaces)
}

// printInterfaces prints a line for each address, and one for an interface
// that has none.
func printInterfaces(out io.Writer, interfaces []multicast.Interface) error {
	t := newTable("INTERFACE", "INDEX", "STATE", "MTU", "ADDRESS", "NOTES")
	for _, i := range interfaces {
		row := []any{i.Name, i.Index, stateOf(i), i.MTU}
		if len(i.Addresses) == 0 {
			t.row(append(row, "-", strings.Join(interfaceNotes(i), ", "))...)
		}
		for n, a := range i.Addresses {
			notes := addressNotes(a)
			if a.Label != "" {
				notes = append([]string{"label " + a.Label}, notes...)
			}
			if n == 0 {
				notes = append(interfaceNotes(i), notes...)
			} else {
				row = []any{"", "", "", ""}
			}
			t.row(append(row, a.Prefix, strings.Join(notes, ", "))...)
		}
	}
	return t.print(out)
}

func stateOf(i multicast.Interface) string {
	switch {
	case !i.Up:
		return "down"
	case !i.Carrier:
		return "no carrier"
	}
	return "up"
}

func interfaceNotes(i multicast.Interface) (notes []string) {
	if i.Loopback {
		notes = append(notes, "ends on this host")
	}
	if i.Master != "" {
		role := "member of "
		if i.MasterKind == "bridge" || i.MasterKind == "openvswitch" {
			role = "port of "
		}
		notes = append(notes, role+i.Master)
	}
	if len(i.AltNames) > 0 {
		notes = append(notes, "also "+strings.Join(i.AltNames, ", "))
	}
	return notes
}

func addressNotes(a multicast.Address) (notes []string) {
	for _, note := range []struct {
		is   bool
		text string
	}{
		{a.Prefix.Addr().IsLinkLocalUnicast(), "link-local"},
		{a.Secondary && a.Prefix.Addr().Is4(), "secondary"},
		{a.Secondary && a.Prefix.Addr().Is6(), "temporary"},
		{a.Tentative && !a.Duplicate, "tentative"},
		{a.Duplicate, "duplicate"},
		{a.Deprecated, "deprecated"},
	} {
		if note.is {
			notes = append(notes, note.text)
		}
	}
	return notes
}

// interfaceJSON and addressJSON are what --json prints. Names may be added to
// them, not changed.
type interfaceJSON struct {
	Name      string        `json:"name"`
	AltNames  []string      `json:"alternative_names,omitempty"`
	Index     int           `json:"index"`
	State     string        `json:"state"` // "up", "down" or "no carrier"
	MTU       int           `json:"mtu"`   // bytes
	Loopback  bool          `json:"loopback"`
	Master    string        `json:"master,omitempty"` // the bridge, bond or VRF it belongs to
	Addresses []addressJSON `json:"addresses"`
}

type addressJSON struct {
	Address netip.Addr   `json:"address"`
	Label   string       `json:"label,omitempty"`
	Prefix  netip.Prefix `json:"prefix"` // the network, with the address's length
	Notes   []string     `json:"notes,omitempty"`
}

func printInterfacesJSON(out io.Writer, interfaces []multicast.Interface) error {
	list := make([]interfaceJSON, 0, len(interfaces))
	for _, i := range interfaces {
		j := interfaceJSON{i.Name, i.AltNames, i.Index, stateOf(i), i.MTU, i.Loopback, i.Master, make([]addressJSON, 0, len(i.Addresses))}
		for _, a := range i.Addresses {
			j.Addresses = append(j.Addresses, addressJSON{a.Prefix.Addr(), a.Label, a.Prefix.Masked(), addressNotes(a)})
		}
		list = append(list, j)
	}
	e := json.NewEncoder(out)
	e.SetIndent("", "  ")
	return e.Encode(list)
}
