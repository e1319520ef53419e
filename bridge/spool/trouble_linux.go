package spool

import (
	"fmt"
	"syscall"
)

// diskTrouble is what can be told of a folder's disk without writing to it.
func (s *files) diskTrouble(dir string) error {
	if err := s.try("statfs", dir); err != nil {
		return err
	}
	const readOnly = 1 // ST_RDONLY of statfs(2)
	var st syscall.Statfs_t
	if err := syscall.Statfs(dir, &st); err != nil {
		return fmt.Errorf("look at the folder: %w", err)
	}
	switch {
	case st.Flags&readOnly != 0:
		return fmt.Errorf("look at the folder: %w", syscall.EROFS)
	case st.Blocks > 0 && st.Bavail == 0:
		return fmt.Errorf("look at the folder: %w", syscall.ENOSPC)
	}
	return nil
}
