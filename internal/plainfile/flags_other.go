//go:build !unix

package plainfile

// Elsewhere no file of a folder makes who opens it wait.
const nonblock, nofollow, folder = 0, 0, 0
