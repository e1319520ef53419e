//go:build !linux

package spool

func newClock() Clock { return newProcessClock() }
