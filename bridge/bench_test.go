package bridge

import (
	"fmt"
	"testing"

	"topicast/bridge/session"
	"topicast/internal/lab/fake"
	"topicast/mapping"
)

func BenchmarkNew(b *testing.B) {
	for _, n := range []struct{ sends, receives int }{{100, 0}, {10_000, 0}, {100_000, 0}, {0, 10_000}} {
		b.Run(fmt.Sprintf("send=%d,receive=%d", n.sends, n.receives), func(b *testing.B) {
			send := make([]mapping.SendRule, n.sends)
			for i := range send {
				send[i] = fake.SendRule(b, fmt.Sprint("rule-", i), fmt.Sprintf("site/%d/lamp/set", i), "239.1.1.1:5000")
			}
			receive := make([]mapping.ReceiveRule, n.receives)
			for i := range receive {
				receive[i] = fake.ReceiveRule(b, fmt.Sprint("meter-", i), fmt.Sprintf("239.2.%d.%d:5000", i>>8, i&255), fmt.Sprint("meters/", i))
			}
			table, err := mapping.Compile(send, receive)
			if err != nil {
				b.Fatal(err)
			}
			o := Options{Table: table, network: of(&fake.Network{}), Session: session.Options{URLs: []string{"mqtt://127.0.0.1:1"}, ClientID: "bench"}}
			b.ReportAllocs()
			for b.Loop() {
				if _, err := New(o); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
