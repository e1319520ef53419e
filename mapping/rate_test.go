package mapping_test

import (
	"strings"
	"testing"
	"time"

	"topicast/mapping"
)

func TestRatesAreReadAndWritten(t *testing.T) {
	for text, period := range map[string]time.Duration{
		"": 0, "50/s": 20 * time.Millisecond, "1000/s": time.Millisecond, "1/s": time.Second, "10/m": 6 * time.Second, "60000/m": time.Millisecond,
		"1/h": time.Hour, "6/h": 10 * time.Minute,
	} {
		r, err := mapping.ParseRate(text)
		if err != nil || r.Period() != period || r.String() != text || r.IsZero() != (period == 0) {
			t.Errorf("%q is %q, one in %v: %v", text, r, r.Period(), err)
		}
	}
	for _, text := range []string{"50", "0/s", "-1/s", "+1/s", "1001/s", "60001/m", "1/d", "/s", "s", "1.5/s", "50 /s", "50/s ", "99999999999/s", "050/s"} {
		if r, err := mapping.ParseRate(text); err == nil {
			t.Errorf("%q is %v", text, r)
		}
	}
}

func TestWhenOverNeedsARate(t *testing.T) {
	r := rule(t, "a", "239.1.1.1:1")
	r.WhenOver = mapping.OverDrop
	_, err := mapping.Compile([]mapping.SendRule{r}, nil)
	if lines := faults(t, err); len(lines) != 1 || !strings.Contains(lines[0], "send[0].when_over: drop is about messages that come faster than the rate, and the rule has none") {
		t.Errorf("%q", lines)
	}
	r.Rate, _ = mapping.ParseRate("1/s")
	if _, err := mapping.Compile([]mapping.SendRule{r}, nil); err != nil {
		t.Error(err)
	}
	r.WhenOver = 7
	_, err = mapping.Compile([]mapping.SendRule{r}, nil)
	if lines := faults(t, err); len(lines) != 1 || !strings.Contains(lines[0], "send[0].when_over: 7 is not wait, latest or drop") {
		t.Errorf("%q", lines)
	}
}
