package configs

import "topicast/mapping"

// nearest returns the name that differs least from what was written, if one is near
// enough to have been meant.
func nearest(written string, names []string) string {
	return mapping.Nearest(written, names, len(written)/3+1)
}
