//go:build !linux

package lastsent

// bootID is not known: only what a process that ended in good order has written is
// believed.
func bootID() string { return "" }
