package main

import (
	"net/netip"
	"strings"
	"testing"

	"topicast/bridge/tap"
)

func TestALineOfAnAnswerSaysWhereItIsPublishedAndForWhat(t *testing.T) {
	port, host := netip.MustParseAddrPort("172.17.0.1:46956"), netip.MustParseAddrPort("172.17.33.4:1010")
	for want, e := range map[string]tap.Event{
		"published  rpc  172.17.33.4:1010 -> back/x  for rpc/4  on iso0  5 bytes": {
			Decision: tap.Published, Topic: "rpc/4", AnswerTopic: "back/x", To: port, Source: host, Interface: "iso0", Bytes: 5},
		"published  rpc  172.17.33.4:1010 -> back/z  for rpc/77/none  60 bytes  no answer: unanswered": {
			Decision: tap.Published, Topic: "rpc/77/none", AnswerTopic: "back/z", To: host, Bytes: 60, Detail: "no answer: unanswered"},
		"filtered   rpc  172.17.33.4:1010 -> 172.17.0.1:46956  on iso0  5 bytes  unasked": {
			Decision: tap.Filtered, To: port, Source: host, Interface: "iso0", Bytes: 5, Reason: "unasked"},
		"dropped    rpc  3 messages  receive_buffer": {Decision: tap.Dropped, Reason: "receive_buffer", Count: 3},
	} {
		e.Direction, e.Rule = tap.Answer, "rpc"
		if _, got, _ := strings.Cut(eventLine(&e), "  "); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}
