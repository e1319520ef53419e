// Package control lets the users of this host ask a running bridge, and direct it, by a unix socket.
package control
