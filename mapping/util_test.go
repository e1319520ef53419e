package mapping_test

import (
	"net/netip"
	"unsafe"
)

func prefix(s string) netip.Prefix { return netip.MustParsePrefix(s) }

// unsafeString returns a string that changes with its bytes.
func unsafeString(b []byte) string { return unsafe.String(&b[0], len(b)) }
