//go:build unix && !aix && !solaris

package configs

import "syscall"

// writable returns why this user cannot make a file in the folder, without making one.
func writable(dir string) error {
	const write, search = 2, 1 // W_OK, X_OK of access(2)
	return syscall.Access(dir, write|search)
}
