package session

import "encoding/binary"

// A topic alias stands for a topic on one connection, MQTT 5, section 3.3.2.3.4: the first message with it
// has both, later ones have the alias alone, which saves the bytes of the topic. A broker says in its
// CONNACK how many it takes (Topic Alias Maximum).
//
// What waits for the broker is kept with its whole topic, as it can be written on any connection. The alias comes
// in as it is written (nextWrite): in the order of the connection, so that none is used before it is set, and on
// each connection anew. What is written again finds the alias of its topic there, or sets it.
//
// The largest packet that a broker takes is held against a message with its whole topic, for so it may have to be
// written on the next connection; one that only the alias makes too large goes without.

const (
	// maxAliases is how many are used, if the broker takes as many.
	maxAliases = 64

	// aliasSize is what an alias takes among the properties: a shorter topic has none. Longer
	// ones than maxAliased have none either, which bounds the memory of the table.
	aliasSize  = 3
	maxAliased = 1 << 10

	// aliasMisses is how many messages without an alias come before one of them gets that of another topic, where
	// all are in use: topics that come in turn, more than there are aliases, would else set one with each message.
	aliasMisses = 64
)

// aliases are those of a connection. They are guarded by the outbox's mu.
type aliases struct {
	most      int               // how many there may be
	maxPacket int               // bytes of a packet; 0: as many as it has
	byName    map[string]uint16 // from 1 on [MQTT-3.3.2-8]
	topics    []aliasedTopic    // of alias n: topics[n-1]
	misses    int
	hand      int // which topic is looked at next for its alias
}

type aliasedTopic struct {
	name string
	used bool // since the hand was there
}

// newAliases are those of a connection whose broker takes so many; nil: it takes none.
func newAliases(granted, maxPacket int) *aliases {
	if granted == 0 {
		return nil
	}
	return &aliases{most: min(granted, maxAliases), maxPacket: maxPacket, byName: make(map[string]uint16)}
}

// append appends a PUBLISH of ours, with its alias or in place of its topic.
func (a *aliases) append(b, frame []byte) []byte {
	head, rest, _ := fixedHeader(frame)
	from := head + 2
	end := from + int(binary.BigEndian.Uint16(frame[head:]))
	topic := frame[from:end]
	if len(topic) <= aliasSize || len(topic) > maxAliased {
		return append(b, frame...)
	}
	at := end // of the properties
	if frame[0]&qosBits != 0 {
		at += 2
	}
	props, size, _ := variableInteger(frame[at:])
	rest += aliasSize + variableSize(props+aliasSize) - size
	alias, known := a.byName[string(topic)]
	switch {
	case known:
		a.topics[alias-1].used = true
		rest -= len(topic)
	case rest > maxRest, a.maxPacket > 0 && 1+variableSize(rest)+rest > a.maxPacket:
		return append(b, frame...)
	default:
		if alias = a.set(topic); alias == 0 {
			return append(b, frame...)
		}
	}
	b = binary.AppendUvarint(append(b, frame[0]), uint64(rest))
	if known {
		b = append(b, 0, 0)
	} else {
		b = append(b, frame[head:end]...)
	}
	b = append(b, frame[end:at]...)
	b = binary.AppendUvarint(b, uint64(props+aliasSize))
	b = append(b, topicAlias, byte(alias>>8), byte(alias))
	return append(b, frame[at+size:]...)
}

// variableSize is how many bytes a number takes, section 1.5.5.
func variableSize(n int) (size int) {
	for size = 1; n >= 0x80; n >>= 7 {
		size++
	}
	return size
}

// set gives a topic an alias; 0: it gets none for now.
func (a *aliases) set(topic []byte) (alias uint16) {
	if len(a.topics) < a.most {
		a.topics = append(a.topics, aliasedTopic{})
		alias = uint16(len(a.topics))
	} else {
		if a.misses++; a.misses < aliasMisses {
			return 0
		}
		a.misses = 0
		alias = a.free()
		delete(a.byName, a.topics[alias-1].name)
	}
	name := string(topic)
	a.topics[alias-1] = aliasedTopic{name: name, used: true}
	a.byName[name] = alias
	return alias
}

// free finds the alias of a topic that was not used lately (the clock algorithm).
func (a *aliases) free() (alias uint16) {
	for {
		i := a.hand
		a.hand = (a.hand + 1) % len(a.topics)
		if !a.topics[i].used {
			return uint16(i + 1)
		}
		a.topics[i].used = false
	}
}
