//go:build !unix

package main

import "os"

// deviceAndInode is nothing here: there is no journal.
func deviceAndInode(*os.File) string { return "" }
