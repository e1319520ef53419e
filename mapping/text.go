package mapping

import "strconv"

// quote quotes a text that somebody else wrote, and cuts it where it would
// flood a log.
func quote(s string) string {
	const most = 120
	if len(s) > most {
		return strconv.Quote(s[:most]) + "…"
	}
	return strconv.Quote(s)
}
