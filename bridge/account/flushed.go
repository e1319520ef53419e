package account

// Flushed is what was discarded of a rule because somebody asked for it. Its JSON names are part of
// the interface.
type Flushed struct {
	Rule   string `json:"rule"`
	Memory int    `json:"memory"`         // messages that waited in memory
	Disk   int    `json:"disk"`           // and on disk
	Left   bool   `json:"left,omitempty"` // some are being passed on just now, and could not be
}
