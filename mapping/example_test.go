package mapping_test

import (
	"errors"
	"fmt"
	"net/netip"

	"topicast/mapping"
)

// A table says of a topic which groups it goes to.
func Example() {
	filter, _ := mapping.ParseFilter("site/{floor}/lamp/{id}/set")
	group, _ := mapping.ParseGroup("239.10.{floor}.{id}:{30000+id}")
	table, err := mapping.Compile([]mapping.SendRule{{
		Filter: filter, QoS: 1, Group: group,
		Binding: mapping.Binding{Interface: "iso0", TTL: 1},
	}}, nil)
	if err != nil {
		fmt.Println(err)
		return
	}
	for _, topic := range []string{"site/3/lamp/7/set", "site/3/lamp/700/set", "site/3/lamp"} {
		targets := table.Lookup(topic, nil)
		for _, t := range targets {
			if t.Err != nil {
				fmt.Printf("%s: %v\n", topic, t.Err)
			} else {
				fmt.Printf("%s goes to %v by rule %s\n", topic, t.To, table.Send()[t.Rule].Name)
			}
		}
		if len(targets) == 0 {
			fmt.Printf("%s: no rule\n", topic)
		}
	}
	// Output:
	// site/3/lamp/7/set goes to 239.10.3.7:30007 by rule site/{floor}/lamp/{id}/set
	// site/3/lamp/700/set: group 239.10.{floor}.{id}:{30000+id} for topic "site/3/lamp/700/set": {id} is 700, not 0 to 255
	// site/3/lamp: no rule
}

// Every fault of all rules is in the error.
func ExampleCompile_faults() {
	_, err := mapping.Compile([]mapping.SendRule{{Name: "lamps"}}, nil)
	for _, e := range err.(interface{ Unwrap() []error }).Unwrap() {
		var fault *mapping.Fault
		fmt.Println(errors.As(e, &fault), e)
	}
	// Output:
	// true send[0].filter: missing
	// true send[0].source: neither source nor interface: where datagrams leave from is never guessed
	// true send[0].ttl: 0 would keep the datagrams on this host; it is 1 to 255
	// true send[0].group: missing
}

func ExampleFilter_Match() {
	filter, _ := mapping.ParseFilter("meters/+/power")
	fmt.Println(filter.Match("meters/7/power"), filter.Match("meters/7/energy"))
	// Output:
	// true false
}

// A topic template makes the topic of a datagram from what is known of it.
func ExampleTopic_Append() {
	topic, _ := mapping.ParseTopic("meters/{source}/{group&255}")
	b, err := topic.Append(nil, &mapping.Arrival{
		To:     netip.MustParseAddrPort("239.11.0.7:30001"),
		Source: netip.MustParseAddrPort("172.17.0.9:4000"),
	}, "meters")
	fmt.Println(string(b), err)
	// Output:
	// meters/172.17.0.9/7 <nil>
}
