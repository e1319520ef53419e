package mapping_test

import (
	"strings"
	"testing"
	"time"

	"topicast/mapping"
)

func TestParseOnDown(t *testing.T) {
	for text, want := range map[string]mapping.OnDown{
		"spool": mapping.OnDownSpool, "latest": mapping.OnDownLatest, "drop": mapping.OnDownDrop,
	} {
		var o mapping.OnDown
		if err := o.UnmarshalText([]byte(text)); err != nil || o != want {
			t.Errorf("%s: %v, %v", text, o, err)
		}
		if got, err := o.MarshalText(); err != nil || string(got) != text {
			t.Errorf("%s became %s, %v", text, got, err)
		}
	}
	for text, says := range map[string]string{
		"": "not spool, latest or drop", "last": "did you mean latest", "Drop": "did you mean drop", "keep": "not spool",
	} {
		if o, err := mapping.ParseOnDown(text); err == nil || !strings.Contains(err.Error(), says) || o != mapping.OnDownUnset {
			t.Errorf("%q: %v, %v", text, o, err)
		}
	}
	if got := mapping.OnDownUnset.String(); got != "" {
		t.Error(got)
	}
	if got := mapping.OnDown(4).String(); got != "OnDown(4)" {
		t.Error(got)
	}
}

// A rule that does not say keeps what the broker keeps, and drops the rest.
func TestCompileFillsInOnDown(t *testing.T) {
	for _, tt := range []struct {
		qos        byte
		rule, want mapping.OnDown
	}{
		{0, mapping.OnDownUnset, mapping.OnDownDrop},
		{1, mapping.OnDownUnset, mapping.OnDownSpool},
		{2, mapping.OnDownUnset, mapping.OnDownSpool},
		{0, mapping.OnDownLatest, mapping.OnDownLatest},
		{1, mapping.OnDownDrop, mapping.OnDownDrop},
		{2, mapping.OnDownLatest, mapping.OnDownLatest},
	} {
		r := rule(t, "a", "239.1.1.1:1")
		r.QoS, r.OnDown, r.MaxAge = tt.qos, tt.rule, time.Minute
		table, err := mapping.Compile([]mapping.SendRule{r}, nil)
		if err != nil {
			t.Fatal(err)
		}
		got := table.Send()[0]
		if got.OnDown != tt.want || got.MaxAge != time.Minute {
			t.Errorf("qos %d, %q: %v and %v, want %v", tt.qos, tt.rule, got.OnDown, got.MaxAge, tt.want)
		}
		if r.OnDown != tt.rule {
			t.Error("the rule that was given has changed")
		}
	}
}
