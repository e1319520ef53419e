// Package bridge runs a compiled table between one broker and the network.
//
// The way of a message from the broker to a group stands in send.go, from top to
// bottom; what happens when a datagram cannot leave now, in binding.go; what is
// lost, in drop.go.
package bridge
