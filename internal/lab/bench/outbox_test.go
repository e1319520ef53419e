//go:build linux

package main

import (
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

func TestAnOutboxSendsEachDatagramByItselfAndInOrder(t *testing.T) {
	var sizes []int
	for range 150 {
		sizes = append(sizes, 100) // more than one entry takes
	}
	sizes = append(sizes, 20, 100, 100, 30, 30, 100)
	for _, segments := range []bool{false, true} {
		here, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
		if err != nil {
			t.Fatal(err)
		}
		defer here.Close()
		if err := here.SetReadDeadline(time.Now().Add(10 * time.Second)); err != nil {
			t.Fatal(err)
		}
		to := here.LocalAddr().(*net.UDPAddr).AddrPort()
		connected, err := sendSocket(netip.MustParseAddr("127.0.0.2"), to)
		if err != nil {
			t.Fatal(err)
		}
		defer unix.Close(connected)
		o := newOutbox(connected, segments)
		var sent, got []int
		for i, size := range sizes {
			p := make([]byte, size)
			p[0] = byte(i)
			if err := o.add(p, nil); err != nil {
				t.Fatal(err)
			}
			sent = append(sent, i<<16|size)
		}
		entries := o.n
		if err := o.flush(); err != nil {
			t.Fatal(err)
		}
		if want := map[bool]int{false: len(sizes), true: 3 + 4}[segments]; entries != want {
			t.Errorf("segments %v: %d entries, want %d", segments, entries, want)
		}
		buf := make([]byte, 70_000)
		for range sizes {
			n, from, err := here.ReadFromUDPAddrPort(buf)
			if err != nil {
				t.Fatalf("segments %v: after %d: %v", segments, len(got), err)
			}
			if from.Addr() != netip.MustParseAddr("127.0.0.2") {
				t.Fatalf("a datagram from %v", from)
			}
			got = append(got, int(buf[0])<<16|n)
		}
		if diff := cmp.Diff(sent, got); diff != "" {
			t.Errorf("segments %v (-sent +got):\n%s", segments, diff)
		}
	}
}

func TestARunIsOfOneGroup(t *testing.T) {
	a, b := rawAddr(netip.MustParseAddrPort("239.1.0.1:5000")), rawAddr(netip.MustParseAddrPort("239.1.0.2:5000"))
	o := newOutbox(-1, true)
	p := make([]byte, 20)
	for _, to := range []*unix.RawSockaddrInet4{a, a, b, a, b, b} {
		if err := o.add(p, to); err != nil {
			t.Fatal(err)
		}
	}
	o.close()
	var got []int
	for i := range o.n {
		got = append(got, int(o.msgs[i].hdr.Iovlen))
	}
	if diff := cmp.Diff([]int{2, 1, 1, 2}, got); diff != "" {
		t.Errorf("datagrams in each entry (-want +got):\n%s", diff)
	}
}
