// Package demobroker is the MQTT broker of the demo command, in the process.
//
// It listens on 127.0.0.1 and speaks MQTT 3.1.1: QoS 0, 1 and 2 both ways,
// wildcards, retained messages, wills, keep-alive, and the takeover of a client
// identifier.
//
// It keeps no session beyond its connection. A CONNECT without the clean session
// flag is accepted, and each is answered with "no session present": subscriptions,
// and messages not yet acknowledged, end with the connection. Nothing is on disk,
// there are no passwords, and other versions of MQTT are refused.
package demobroker
