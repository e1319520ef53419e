package bridge

import (
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"topicast/internal/lab/fake"
	"topicast/mapping"
)

// Each leg that is known has its loss and lag; whoever says other things has no series.
func TestTheMetricsOfLegs(t *testing.T) {
	rules := []mapping.ReceiveRule{
		fake.ReceiveRule(t, "pair", "239.1.1.1:5000", "a", func(r *mapping.ReceiveRule) { r.Merge, r.Interface = 100*time.Millisecond, "iso0,priv0" }),
		fake.ReceiveRule(t, "single", "239.1.1.1:5000", "b"),
	}
	var text string
	bridgeReceiving(t, Options{}, nil, rules, func(b *Bridge, n *fake.Network) {
		r := n.At("239.1.1.1:5000", "iso0")
		for i := range 20 {
			r.Hear("172.17.0.11:5", fmt.Sprint(i))
			time.Sleep(25 * time.Millisecond)
			if i != 15 {
				r.Hear("172.17.0.12:5", fmt.Sprint(i))
			}
			r.Hear("172.17.0.13:5", fmt.Sprint("other ", i))
			synctest.Wait()
		}
		time.Sleep(time.Second)
		b.receive.WatchLegs(time.Now())
		text = b.exposed(t)
	})
	var got []string
	for line := range strings.Lines(text) {
		if strings.Contains(line, "topicast_leg_") || strings.Contains(line, "topicast_unmerged") {
			got = append(got, strings.TrimSpace(line))
		}
	}
	want := []string{
		"# HELP topicast_leg_datagrams_received_total Datagrams that came by a leg of a rule with merge.",
		"# TYPE topicast_leg_datagrams_received_total counter",
		`topicast_leg_datagrams_received_total{rule="pair",interface="iso0",source="172.17.0.11"} 20`,
		`topicast_leg_datagrams_received_total{rule="pair",interface="iso0",source="172.17.0.12"} 19`,
		"# HELP topicast_leg_duplicates_total Of these, those that another leg had brought before.",
		"# TYPE topicast_leg_duplicates_total counter",
		`topicast_leg_duplicates_total{rule="pair",interface="iso0",source="172.17.0.11"} 0`,
		`topicast_leg_duplicates_total{rule="pair",interface="iso0",source="172.17.0.12"} 19`,
		"# HELP topicast_leg_missing_total Datagrams that other legs brought, and this one did not within the time of merge.",
		"# TYPE topicast_leg_missing_total counter",
		`topicast_leg_missing_total{rule="pair",interface="iso0",source="172.17.0.11"} 0`,
		`topicast_leg_missing_total{rule="pair",interface="iso0",source="172.17.0.12"} 1`,
		"# HELP topicast_leg_lag_seconds How much later than by the first leg duplicates came; sum and count.",
		"# TYPE topicast_leg_lag_seconds summary",
		`topicast_leg_lag_seconds_sum{rule="pair",interface="iso0",source="172.17.0.11"} 0`,
		`topicast_leg_lag_seconds_count{rule="pair",interface="iso0",source="172.17.0.11"} 0`,
		`topicast_leg_lag_seconds_sum{rule="pair",interface="iso0",source="172.17.0.12"} 0.475`,
		`topicast_leg_lag_seconds_count{rule="pair",interface="iso0",source="172.17.0.12"} 19`,
		"# HELP topicast_unmerged_datagrams_total Datagrams of a rule with merge of which a copy may have been published too, as there was no room or no place for their leg.",
		"# TYPE topicast_unmerged_datagrams_total counter",
		`topicast_unmerged_datagrams_total{rule="pair"} 0`,
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
}
