// Package demobroker is the MQTT broker of the demo command, in the process.
//
// It listens on 127.0.0.1 and speaks MQTT 5 and 3.1.1, with each client what that
// one begins with: QoS 0, 1 and 2 both ways, wildcards, retained messages, wills,
// keep-alive, and the takeover of a client identifier. Of MQTT 5 it has the reason
// codes, the properties of messages, which it passes on, their expiry, subscription
// identifiers, No Local, Retain Handling and Retain As Published, and what a client
// says of the messages that it takes (Receive Maximum, Maximum Packet Size).
//
// It keeps no session beyond its connection. A CONNECT that asks for one is accepted,
// and each is answered with "no session present", in MQTT 5 with a Session Expiry
// Interval of 0: subscriptions, and messages not yet acknowledged, end with the
// connection, and a will is published at once. Nothing is on disk, there are no
// passwords, no topic aliases and no shared subscriptions, and other versions of MQTT
// are refused.
package demobroker
