//go:build !linux

package main

import "topicast/internal/lab/harness"

func main() { harness.NeedsLinux("attack") }
