package session

// Limits are what a broker takes: as it says in its CONNACK (MQTT 5, section 3.2.2.3), as it was found out,
// or as the configuration says. What is 0, nil or left out has no limit that is known.
type Limits struct {
	ReceiveMaximum    int    `json:"receive_maximum,omitempty"`     // messages of QoS 1 and 2 at once
	MaximumPacketSize int    `json:"maximum_packet_size,omitempty"` // bytes
	TopicAliasMaximum int    `json:"topic_alias_maximum,omitempty"`
	MaximumQoS        *int   `json:"maximum_qos,omitempty"`
	Retain            *bool  `json:"retain_available,omitempty"`
	Wildcards         *bool  `json:"wildcard_subscription_available,omitempty"`
	Shared            *bool  `json:"shared_subscription_available,omitempty"`
	Identifiers       *bool  `json:"subscription_identifiers_available,omitempty"`
	ServerKeepAlive   int    `json:"server_keep_alive,omitempty"`       // seconds
	SessionExpiry     *int64 `json:"session_expiry_interval,omitempty"` // seconds

	Subscriptions int `json:"subscriptions,omitempty"`         // of one client
	MessageRate   int `json:"messages_per_second,omitempty"`   // of ours
	Filters       int `json:"filters_per_subscribe,omitempty"` // where it is fewer than are asked for at once elsewhere
}

// limits are those that the terms say.
func (t *terms) limits() (l Limits) {
	l.ReceiveMaximum, l.MaximumPacketSize, l.ServerKeepAlive = t.inFlight, t.maxPacket, t.keepAlive
	l.TopicAliasMaximum = t.aliases
	if t.qos1Most {
		l.MaximumQoS = new(1)
	}
	for _, cannot := range []struct {
		it bool
		to **bool
	}{{t.noRetain, &l.Retain}, {t.noWild, &l.Wildcards}, {t.noShared, &l.Shared}, {t.noIDs, &l.Identifiers}} {
		if cannot.it {
			*cannot.to = new(false)
		}
	}
	if t.expires {
		l.SessionExpiry = new(int64(t.expiry))
	}
	return l
}

// learn enters what was found out of subscriptions.
func (l *Limits) learn(of *limits) {
	l.Subscriptions, l.Filters = max(of.subs(), 0), 0
	if of.maxFilters < maxChunk {
		l.Filters = of.maxFilters
	}
}

// atMost has the terms ask for no larger packet than the configuration says; 0: it does not.
func (t *terms) atMost(maxPacket int) {
	if maxPacket > 0 && (t.maxPacket == 0 || t.maxPacket > maxPacket) {
		t.maxPacket = maxPacket
	}
}
