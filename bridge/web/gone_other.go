//go:build !linux

package web

import "net"

// endWhenGone leaves a connection whose other side is gone to the system's patience.
func endWhenGone(net.Conn) {}
