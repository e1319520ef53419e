package multicast

import (
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestResolveInterface(t *testing.T) {
	ifs := []Interface{
		{Name: "lo", Index: 1, Loopback: true, Addresses: []Address{at("127.0.0.1/8"), at("::1/128")}},
		{Name: "iso0", Index: 2, Addresses: []Address{at("172.17.0.1/16"), at("192.0.2.1/24"), at("fe80::1/64"), at("fd17::1/64")}},
		{Name: "priv0", Index: 3, Addresses: []Address{at("10.0.0.2/24"), at("192.0.2.1/24"), at("fe80::1/64")}},
		{Name: "10.0.0.2", Index: 4},
		{Name: "down0", Index: 5, AltNames: []string{"enp5s0", "a-very-long-name-of-the-kind-that-udev-makes"}, Addresses: []Address{labelled("192.0.2.9/24", "down0:1"), labelled("192.0.2.10/24", "both:1")}},
		{Name: "down1", Index: 6, Addresses: []Address{labelled("192.0.2.11/24", "both:1"), labelled("192.0.2.12/24", "iso0"), labelled("192.0.2.13/24", "down0:2")}},
		{Name: "both", Index: 7},
	}
	for _, tt := range []struct {
		text      string
		index     int
		err       string
		ambiguous bool
	}{
		{text: "iso0", index: 2},
		{text: "down0", index: 5},
		{text: "172.17.0.1", index: 2},
		{text: "::ffff:172.17.0.1", index: 2},
		{text: "127.0.0.1", index: 1},
		{text: "127.0.0.77", index: 1}, // all of it is this host
		{text: "fd17::1", index: 2},
		{text: "fe80::1%iso0", index: 2},
		{text: "fe80::1%priv0", index: 3},
		{text: "10.0.0.2", index: 4}, // a name, if ever so odd
		{text: "enp5s0", index: 5},
		{text: "a-very-long-name-of-the-kind-that-udev-makes", index: 5},
		{text: "down0:1", index: 5},
		{text: "down0:2", index: 6}, // a label may be any text
		{text: "down0:3", err: "no address of down0 has the label down0:3"},
		{text: "enp5s0:3", err: "no address of down0 has the label enp5s0:3"},
		{text: "both:1", err: "the label both:1 is ambiguous, several interfaces have it: name the interface instead", ambiguous: true},
		{text: "eth7", err: "there is no interface eth7 (there are lo, iso0, priv0, 10.0.0.2, down0, down1, both)"},
		{text: "ISO0", err: "there is no interface ISO0 (there are lo, iso0, priv0, 10.0.0.2, down0, down1, both)"},
		{text: "fe80::1%eth7", err: "there is no interface eth7 (there are lo, iso0, priv0, 10.0.0.2, down0, down1, both)"},
		{text: "172.17.0.2", err: "no interface has 172.17.0.2 (there is 127.0.0.1 on lo, 172.17.0.1 on iso0, 192.0.2.1 on iso0, 10.0.0.2 on priv0, 192.0.2.1 on priv0, 192.0.2.9 on down0, 192.0.2.10 on down0, 192.0.2.11 on down1, 2 more)"},
		{text: "fe80::2%iso0", err: "no interface has fe80::2%iso0 (there is ::1 on lo, fe80::1 on iso0, fd17::1 on iso0, fe80::1 on priv0)"},
		{text: "192.0.2.1", err: "192.0.2.1 is ambiguous, there is 192.0.2.1 on iso0, 192.0.2.1 on priv0: name the interface instead", ambiguous: true},
		{text: "fe80::1", err: "fe80::1 is ambiguous, there is fe80::1 on iso0, fe80::1 on priv0: name the interface instead", ambiguous: true},
	} {
		got, err := ResolveInterface(tt.text, ifs)
		switch {
		case tt.err == "":
			if err != nil || got.Index != tt.index {
				t.Errorf("%s: %d, %v; want %d", tt.text, got.Index, err, tt.index)
			}
		case err == nil:
			t.Errorf("%s: found %s", tt.text, got.Name)
		case err.Error() != tt.err || !errors.Is(err, ErrPending) || errors.Is(err, ErrAmbiguous) != tt.ambiguous:
			t.Errorf("%s (pending: %t, ambiguous: %t):\n got %v\nwant %s", tt.text, errors.Is(err, ErrPending), errors.Is(err, ErrAmbiguous), err, tt.err)
		}
	}
}

func TestKernelNamesAreThoseThatResolve(t *testing.T) {
	ifs := []Interface{
		{Name: "iso0", Index: 2, AltNames: []string{"enp3s0"}, Addresses: []Address{labelled("172.17.0.1/16", ""), labelled("172.17.0.9/16", "iso0:1"), labelled("172.17.0.10/16", "both:1")}},
		{Name: "priv0", Index: 3, Addresses: []Address{labelled("10.0.0.2/24", "both:1"), labelled("10.0.0.3/24", "iso0")}},
	}
	if d := cmp.Diff(map[string]string{"enp3s0": "iso0", "iso0:1": "iso0"}, KernelNames(ifs)); d != "" {
		t.Errorf("want -, got +:\n%s", d)
	}
}
