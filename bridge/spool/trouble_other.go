//go:build !linux

package spool

// diskTrouble knows nothing here: what is wrong with a disk shows when it is written to.
func (s *files) diskTrouble(string) error { return nil }
