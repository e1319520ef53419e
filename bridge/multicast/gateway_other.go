//go:build !linux

package multicast

import "net/netip"

// GatewayRoutes lists nothing here: these systems ask no route where to send what
// has an interface set (macOS: ip_output's multicast options), or cannot be asked.
func GatewayRoutes(ipv6 bool) ([]GatewayRoute, error) { return nil, nil }

// GatewayRoute finds nothing here, likewise.
func (s Source) GatewayRoute(group netip.Addr) (GatewayRoute, bool) { return GatewayRoute{}, false }
