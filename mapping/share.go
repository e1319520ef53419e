package mapping

import (
	"math"
	"strings"
	"unicode/utf8"
)

// sharePrefix begins the filter of a shared subscription, MQTT 5, section 4.8.2.
const sharePrefix = "$share/"

// maxShare bounds the name in bytes, so that it and a filter are no longer than MQTT can write.
const maxShare = 255

// subscription is what the rule subscribes to, as MQTT writes it.
func (r *SendRule) subscription() string {
	if r.Share == "" {
		return r.Filter.mqtt
	}
	return sharePrefix + r.Share + "/" + r.Filter.mqtt
}

// Unshared is the filter of a subscription, without what makes it a shared one.
func Unshared(subscription string) string {
	if rest, shared := strings.CutPrefix(subscription, sharePrefix); shared {
		if _, filter, ok := strings.Cut(rest, "/"); ok {
			return filter
		}
	}
	return subscription
}

func (c *compilation) checkShare(r *SendRule) {
	if r.Share == "" {
		return
	}
	switch {
	case strings.ContainsAny(r.Share, "/+#"):
		c.fault("share", "the rule's filter says which topics; share is a name that the bridges have in common", "%s has one of / + #, which the name of a shared subscription may not [MQTT-4.8.2-2]", quote(r.Share))
	case len(r.Share) > maxShare, len(r.subscription()) > math.MaxUint16:
		c.fault("share", "", "a name longer than %d bytes, or one that makes the subscription longer than 65,535", maxShare)
	case !utf8.ValidString(r.Share), checkText(r.Share) != nil:
		c.fault("share", "", "%s is no name that MQTT can write", quote(r.Share))
	case r.Retained == RetainedAlways:
		c.fault("retained", "leave retained out, or share", "a broker hands out nothing that it has kept for a shared subscription (MQTT 5, section 4.8.2), so there is nothing to send always")
	}
	r.Retained = RetainedNever // and where a broker does hand it out, each of the bridges would send it
}

// checkShares refuses rules that would have one message by two subscriptions of different shares: a
// broker delivers it once for each, maybe to different bridges, and nothing in MQTT 3.1.1 says which
// copy is for which rule.
func (c *compilation) checkShares(t *trie) {
	steps := maxSteps
	for i := range c.send {
		r := &c.send[i]
		if r.Share == "" || len(c.faults) >= MaxFaults {
			continue
		}
		other := none
		t.overlapping(r.Filter.mqtt, &steps, func(first int32) {
			for rule := first; rule != none && other == none; rule = t.next[rule] {
				if steps--; c.send[rule].Share != r.Share {
					other = rule
				}
			}
		})
		if other == none {
			continue
		}
		of := &c.send[other]
		with := "which is not shared"
		if of.Share != "" {
			with = "whose share is " + quote(of.Share)
		}
		c.at = place{"send", i}
		c.fault("share", "give both rules the same share, or filters that no topic matches both of",
			"%s overlaps %s of %s, %s: a message that both match would come by each subscription, and nothing says which copy is for which rule", r.Filter, of.Filter, place{"send", int(other)}, with)
	}
}
