package mapping_test

import (
	"fmt"
	"strings"
	"testing"

	"topicast/mapping"
)

// said are the properties of a message: names and values, and "type" for its content type.
type said map[string]string

func (s said) User(name string) ([]byte, bool) {
	v, ok := s["user "+name]
	return []byte(v), ok
}

func (s said) ContentType() ([]byte, bool) {
	v, ok := s["type"]
	return []byte(v), ok
}

func TestConditionsOfProperties(t *testing.T) {
	of := said{"user room": "7", "user device-id": "d1", "user empty": "", "type": "application/json", "user a.b": "x"}
	for when, want := range map[string]bool{
		`property.room == "7"`:                          true,
		`property.room == 7 && property.room < 8`:       true,
		`property.room + 1 == 8`:                        true,
		`property.room == payload`:                      true,
		`property."device-id" begins "d"`:               true,
		`property."a.b" == "x"`:                         true,
		`property.empty == "" && has(property.empty)`:   true,
		`has(property.none)`:                            false,
		`!has(property.none)`:                           true,
		`property.none == "7"`:                          false,
		`property.none != "7"`:                          false,
		`!(property.none == "7")`:                       false,
		`property.Room == "7"`:                          false, // names are case-sensitive
		`property."device-id" == 1`:                     false, // it is no number
		`property.room -7 == 0 && property.room-7 == 0`: true,
		`content_type == "application/json"`:            true,
		`content_type contains "xml"`:                   false,
		`has(content_type) && property.room == {nope}`:  false,
	} {
		c, err := mapping.ParseMessageCondition(when)
		if strings.Contains(when, "nope") {
			if err == nil {
				t.Errorf("%s is read", when)
			}
			continue
		}
		if err != nil {
			t.Error(err)
			continue
		}
		if got := c.Matches([]byte("t"), nil, []byte("7"), of); got != want {
			t.Errorf("%s: %t", when, got)
		}
		if none := c.Matches([]byte("t"), nil, []byte("7"), nil); none != strings.HasPrefix(when, "!has") {
			t.Errorf("%s of a message of MQTT 3.1.1: %t", when, none)
		}
		if c.String() != when {
			t.Errorf("%q is shown as %q", when, c)
		}
	}
	for when, want := range map[string]string{
		`property. == 1`:                "column 1: property. is followed by no name",
		`property."" == 1`:              "no name",
		`property."a == 1`:              `no text that ends in "`,
		"property.\"a\\x00\" == \"x\"":  "no name",
		`content_type == 7`:             "a number",
		`property.room`:                 "compare it",
		`property.device-id == "d1"`:    `stands in quotes, property."device-id"`,
		`property.a.b == "d1"`:          `stands in quotes, property."a.b"`,
		`property.a -size == 1`:         "",
		`size > 3 && property.9 == "x"`: "column 13",
	} {
		if _, err := mapping.ParseMessageCondition(when); want == "" != (err == nil) || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %s", when, err, want)
		}
	}
	for _, when := range []string{`property.room == 7`, `size == 1 && property."x" == ""`, `content_type == ""`} {
		if _, err := mapping.ParseDatagramCondition(when); err == nil {
			t.Errorf("of a datagram: %s is read", when)
		}
	}
}

func TestTargetsByProperties(t *testing.T) {
	for _, c := range []struct {
		to   string
		of   mapping.Properties
		want string // or the error
	}{
		{"239.1.{n}.{property.room}:5000", said{"user room": "7"}, "239.1.3.7:5000"},
		{`239.1.{n}.{property."room-no" + u8@0}:5000`, said{"user room-no": "7"}, "239.1.3.72:5000"},
		{"239.1.1.1:{5000 + property.room}", said{"user room": "7"}, "239.1.1.1:5007"},
		{"host {property.ip}:5000", said{"user ip": "192.0.2.9"}, "192.0.2.9:5000"},
		{"host {property.ip}:5000", said{"user ip": "192.0.2.999"}, `not an IPv4 address`},
		{"239.1.{n}.{property.room}:5000", said{"user room": "300"}, "{property.room} is 300, not 0 to 255"},
		{"239.1.{n}.{property.room}:5000", said{"user room": "seven"}, `{property.room} is "seven", not a whole number`},
		{"239.1.{n}.{property.room}:5000", said{"user Room": "7"}, "{property.room} is no user property of the message, not there"},
		{"239.1.{n}.{property.room}:5000", nil, "{property.room} is no user property of the message, not there"},
		{"host {property.ip}:5000", nil, "{property.ip} is no user property of the message, not there"},
	} {
		r := toTarget(t, "d/{n}/#", c.to)
		r.Binding.Source = prefix("172.17.0.1/32")
		table, err := mapping.Compile([]mapping.SendRule{r}, nil)
		if err != nil {
			t.Errorf("%s: %v", c.to, err)
			continue
		}
		target := table.Lookup("d/3/x", nil)[0]
		if target.ByPayload == nil {
			t.Errorf("%s does not vary", c.to)
			continue
		}
		to, err := target.ByPayload.Of([]byte("A"), c.of)
		got := to.String()
		if err != nil {
			got = err.Error()
		}
		if !strings.Contains(got, c.want) {
			t.Errorf("%s of %v: %s, want %s", c.to, c.of, got, c.want)
		}
	}
	r := toTarget(t, "d/{n}", `239.{property.a}.{n}.{property."b c" + u8@0}:5000`)
	if got := fmt.Sprintf("%q", r.To().PropertyNames()); got != `["a" "b c"]` {
		t.Errorf("properties %s", got)
	}
}

// A datagram has no properties: what is made of datagrams cannot ask for one.
func TestDatagramsHaveNoProperties(t *testing.T) {
	for _, text := range []string{"a/{property.room}", `a/{property."x y"}`, "a/{u8@0 + property.room}"} {
		if _, err := mapping.ParseTopic(text); err == nil || !strings.Contains(err.Error(), "a property of a message") {
			t.Errorf("topic %s: %v", text, err)
		}
		if _, err := mapping.ParseAnswerTopic(text); err == nil || !strings.Contains(err.Error(), "a property of a message") {
			t.Errorf("answer topic %s: %v", text, err)
		}
	}
	if _, err := mapping.ParseMatch("property.room"); err == nil {
		t.Error("an answer is matched by a property")
	}
}
