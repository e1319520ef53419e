package configs

import (
	"bytes"
	"fmt"
	"io"
	"io/fs"
	"os"

	"topicast/internal/plainfile"
)

// readRegular reads a regular file that is not longer than most. Anything else is
// refused without a try: to open a named pipe waits until somebody writes to it, which
// may be never, and a device need not have an end.
func readRegular(file string, most int64) ([]byte, error) {
	f, err := plainfile.Open(file, os.O_RDONLY, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return readAtMost(f, file, most)
}

// readAtMost reads to the end, which must come within most bytes.
func readAtMost(f io.Reader, file string, most int64) ([]byte, error) {
	tooLong := &fs.PathError{Op: "read", Path: file, Err: errTooLong(most)}
	var b bytes.Buffer
	if of, ok := f.(*os.File); ok {
		if info, err := of.Stat(); err == nil && info.Mode().IsRegular() {
			if info.Size() > most {
				return nil, tooLong // and takes no memory
			}
			b.Grow(int(info.Size()) + bytes.MinRead) // else it grows as it is read, and takes three times as much
		}
	}
	_, err := b.ReadFrom(io.LimitReader(f, most+1))
	if err == nil && int64(b.Len()) > most {
		err = tooLong
	}
	return b.Bytes(), err
}

// maxFile bounds a configuration: it is more than 30,000 rules take, with 250 bytes for each.
// What is larger was put in its place by mistake, and to read it would take the memory that
// the rules in force need.
const maxFile = 8 << 20

type errTooLong int64

func (most errTooLong) Error() string { return fmt.Sprintf("longer than %d bytes", int64(most)) }

// Regular returns an error where the file is there and is no regular one, so that to
// read it again may wait for ever, or give something else.
func Regular(file string) error {
	info, err := os.Stat(file)
	if err != nil || info.Mode().IsRegular() {
		return nil
	}
	return Errors{{Origin: file, Err: plainfile.NotRegular{Mode: info.Mode()}, Hint: "a configuration that is to be read again while topicast runs must be a regular file"}}
}
