//go:build !linux

package multicast

var neighbourOverflows func(ipv6 bool) (n uint64, ok bool) // nobody tells
