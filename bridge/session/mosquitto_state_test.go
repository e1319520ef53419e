package session

import (
	"testing"

	mqtt "github.com/eclipse/paho.mqtt.golang"
)

// A broker need not keep messages of QoS 0 for a client that is away (MQTT 3.1.1,
// 3.1.2.4), and mosquitto does not: what a retained topic has become meanwhile
// comes only because the filter is asked for again, though the session is present.
func TestMosquittoARetainedStateOfQoS0ThatChangedMeanwhileArrives(t *testing.T) {
	port := mosquitto(t, open)
	p := mqtt.NewClient(mqtt.NewClientOptions().AddBroker("mqtt://127.0.0.1:" + port).SetClientID("sensor").SetProtocolVersion(4))
	wait(t, p.Connect())
	t.Cleanup(func() { p.Disconnect(250) })
	o := Options{URLs: []string{"mqtt://127.0.0.1:" + port}, ClientID: "gateway", Subscriptions: []Subscription{{Filter: "lamp/#", QoS: 1}}}

	first := start(t, o)
	first.reached("subscribed", allActive)
	wait(t, p.Publish("lamp/1", 0, true, "on"))
	first.messages(1)
	first.stop()

	wait(t, p.Publish("lamp/1", 0, true, "off"))
	wait(t, p.Publish("lamp/marker", 1, false, "")) // QoS 0 has no answer of its own
	second := start(t, o)
	if !second.reached("subscribed", allActive).SessionPresent {
		t.Error("the session is gone")
	}
	second.until("the state of now", func() bool {
		for _, m := range second.got {
			if string(m.Topic) == "lamp/1" && string(m.Payload) == "off" {
				return true
			}
		}
		return false
	})
}
