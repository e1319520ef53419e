package session

import "golang.org/x/sys/unix"

// bindToInterface has a socket use one interface alone, whatever the routes say (socket(7),
// SO_BINDTODEVICE). Since Linux 5.7 that needs no capability.
func bindToInterface(fd uintptr, name string) error {
	return unix.BindToDevice(int(fd), name)
}
