package doctor

import (
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestWhatIsSentAndDoesNotLeaveIsFound(t *testing.T) {
	for name, row := range map[string]struct {
		change func(p *patient)
		want   []Cause
	}{
		"nothing leaves":             {func(*patient) {}, []Cause{EgressQueue}},
		"another group leaves":       {func(p *patient) { p.leaves("239.9.9.9:9") }, []Cause{EgressQueue}},
		"it leaves":                  {func(p *patient) { p.leaves(to.String()) }, nil},
		"nothing is sent":            {func(p *patient) { p.sent[1].Sent = p.sent[0].Sent }, nil},
		"the wire is not seen":       {func(p *patient) { p.Live.Wire = nil }, nil},
		"packets were missed":        {func(p *patient) { p.Live.Wire.Lost = 1 }, nil},
		"flows were not kept":        {func(p *patient) { p.Live.Wire.More = 1 }, nil},
		"loopback":                   {func(p *patient) { p.On.Loopback = true }, nil},
		"a host":                     {func(p *patient) { p.To = netip.MustParseAddrPort("172.17.0.50:5683") }, nil},
		"one of its groups leaves":   {func(p *patient) { p.Only = false; p.leaves("239.9.9.9:9") }, nil},
		"none of its groups leaves":  {func(p *patient) { p.Only = false; p.leaves("172.17.0.50:53") }, []Cause{EgressQueue}},
		"a firewall discards it too": {func(p *patient) { p.h.Rules = dropping("egress", ofUDP) }, []Cause{EgressFirewall}},
		"no carrier":                 {func(p *patient) { p.On.Carrier = false }, []Cause{NoCarrier}},
	} {
		p := newPatient(true)
		p.Only = true
		p.sent[1].Sent = p.sent[0].Sent + 3
		row.change(p)
		if got := p.causes(); !slices.Equal(got, row.want) {
			t.Errorf("%s: found %q, want %q", name, got, row.want)
		}
	}
	p := newPatient(true)
	p.sent[1].Sent = p.sent[0].Sent + 3
	if f := p.only(t); !strings.Contains(strings.Join(f.Evidence, "; "), "3 datagrams sent within 1s by the count of topicast, and none left by iso0; tc -s qdisc show dev iso0") {
		t.Errorf("%+v", f)
	}
}

func (p *patient) leaves(to string) {
	p.Live.Wire.Flows[Flow{Sent: true, From: netip.AddrPortFrom(here, 4000), To: netip.MustParseAddrPort(to)}] = 1
}

func TestMoreThanTheBrokersRateIsFound(t *testing.T) {
	for name, row := range map[string]struct {
		ago          time.Duration
		before, then int64
		change       func(p *patient)
		want         []Cause
	}{
		"it grows":                {5 * time.Second, 10, 20, nil, []Cause{MaxRate}},
		"it does not, for long":   {time.Minute, 10, 10, nil, []Cause{MaxRate}},
		"a burst":                 {5 * time.Second, 10, 9, nil, nil},
		"a burst that began":      {5 * time.Second, 0, 9, func(p *patient) { p.h.Daemon.Before.Broker.PacedSince = time.Time{} }, nil},
		"nothing waits":           {0, 0, 0, func(p *patient) { p.h.Daemon.After.Broker.PacedSince = time.Time{} }, nil},
		"without a limit":         {time.Minute, 10, 20, func(p *patient) { p.h.Daemon.After.Broker.Limits.MessageRate = 0 }, nil},
		"what is lost by it":      {time.Minute, 10, 20, func(p *patient) { p.published[1].Drops = map[string]uint64{"queue_full": 1} }, []Cause{MaxRate}},
		"no connection":           {time.Minute, 10, 20, func(p *patient) { p.h.Daemon.After.Broker.Connected = false }, []Cause{BrokerAway}},
		"of a group without rule": {time.Minute, 10, 20, func(p *patient) { p.Name = "" }, nil},
	} {
		p := newPatient(false)
		b, a := p.h.Daemon.Before, p.h.Daemon.After
		a.Broker.Limits.MessageRate = 5
		b.Broker.PacedSince = now.Add(-row.ago)
		a.Broker.PacedSince = now.Add(-row.ago)
		b.Queue.Messages, a.Queue.Messages = row.before, row.then
		if row.change != nil {
			row.change(p)
		}
		if got := p.causes(); !slices.Equal(got, row.want) {
			t.Errorf("%s: found %q, want %q", name, got, row.want)
		}
	}
}
