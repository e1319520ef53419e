package main

import (
	"net/netip"
	"slices"
	"strings"
	"testing"

	"topicast/bridge/doctor"
	"topicast/mapping"
)

// docs/doctor.md has what makes each cause, what is said of it and what mends it.
func TestEveryCauseIsDocumentedAndNoOther(t *testing.T) {
	var got []doctor.Cause
	for _, row := range cells(document(t, "docs/doctor.md"), "cause") {
		got = append(got, doctor.Cause(strings.Trim(row[0], "`")))
		if len(row) != 4 || len(row[1]) < 10 || len(row[2]) < 9 || len(row[3]) < 6 {
			t.Errorf("the row %q says too little", row)
		}
	}
	slices.Sort(got)
	if want := doctor.Causes(); !slices.Equal(got, want) {
		t.Errorf("docs/doctor.md has %q, want %q", got, want)
	}
}

func TestOfManyRulesTheFirstAreNamed(t *testing.T) {
	if got, want := someOf(strings.Fields("a b c d e f g h i j")), "a, b, c, d, e, f, g, h and 2 more"; got != want {
		t.Errorf("%s, want %s", got, want)
	}
	if got := someOf([]string{"a"}); got != "a" {
		t.Error(got)
	}
}

// A target that a template may come to is one of its rule, of a host as of a group.
func TestARuleIsFoundByEachTargetThatItMayHave(t *testing.T) {
	var rules []mapping.SendRule
	for name, to := range map[string]string{"hosts": "172.17.33.{id}:1010", "one": "172.17.33.4:1010", "ports": "172.17.34.7:{1000+id}", "groups": "239.10.3.{id}:1010"} {
		r := mapping.SendRule{Name: name, Binding: testBinding(t, "172.17.0.1", "iso0")}
		text := []byte("site/" + name + "/{id}")
		if err := r.Filter.UnmarshalText(text); err != nil {
			t.Fatal(err)
		}
		var err error
		if name == "groups" {
			r.Group, err = mapping.ParseGroup(to)
		} else {
			r.Host, err = mapping.ParseHost(to)
		}
		if err != nil {
			t.Fatal(err)
		}
		rules = append(rules, r)
	}
	table, err := mapping.Compile(rules, nil)
	if err != nil {
		t.Fatal(err)
	}
	for to, want := range map[string]string{
		"172.17.33.4:1010": "hosts one",
		"172.17.33.5:1010": "hosts",
		"172.17.33.4:1011": "",
		"172.17.35.4:1010": "",
		"172.17.34.7:1010": "ports",
		"239.10.3.9:1010":  "groups",
		"239.10.3.9:1011":  "",
		"239.10.4.9:1010":  "",
	} {
		var got []string
		for _, s := range testHost().withGroup(table, netip.MustParseAddrPort(to)) {
			got = append(got, s.Name)
			if s.To.String() != to || !s.Exact || s.Only != (s.Name == "one") || !s.Send {
				t.Errorf("%s: %+v", to, s)
			}
		}
		slices.Sort(got)
		if strings.Join(got, " ") != want {
			t.Errorf("%s: %q, want %q", to, got, want)
		}
	}
}
