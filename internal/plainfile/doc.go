// Package plainfile opens regular files and folders, and neither waits for what else is at a path nor touches it.
package plainfile
