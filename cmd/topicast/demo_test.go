package main

import (
	"strings"
	"testing"
	"time"

	"topicast/configs"
)

// The demo is the same by each version of MQTT that its broker speaks.
func TestTheDemoRunsByEachVersionOfMQTT(t *testing.T) {
	for protocol, spoken := range map[configs.Protocol]string{
		configs.ProtocolAuto: "5", configs.Protocol5: "5", configs.Protocol311: "3.1.1",
	} {
		t.Run("protocol "+string(protocol), func(t *testing.T) {
			var out, errOut strings.Builder
			o := demoOptions{length: 300 * time.Millisecond, every: 50 * time.Millisecond, protocol: protocol}
			if err := runDemo(t.Context(), o, &out, &errOut); err != nil || errOut.Len() > 0 {
				t.Fatalf("%v; it said %q", err, errOut.String())
			}
			for _, want := range []string{"spoken with the broker: MQTT " + spoken + " by the bridge, " + spoken + " by the backend\n", ", 0 lost\n", " at the backend: 0 lost\n"} {
				if !strings.Contains(out.String(), want) {
					t.Errorf("it does not show %q:\n%s", want, out.String())
				}
			}
		})
	}
}
