package main

import (
	"errors"
	"strings"
	"testing"
)

// What somebody wrote into a file must not colour, clear or retitle the terminal of whoever
// checks it.
func TestATerminalDoesNotObeyWhatIsPrinted(t *testing.T) {
	var out strings.Builder
	printError(&out, withHint(errors.New("key \x1b[31mred\u009b2J\r is unknown\n\tnext"), "see \x1b]0;x\x07"))
	printWarning(&out, "w\x1bc")
	if want := "topicast: error: key �[31mred�2J� is unknown\n\tnext\nhint: see �]0;x�\ntopicast: warning: w�c\n"; out.String() != want {
		t.Errorf("%q, want %q", out.String(), want)
	}
}
