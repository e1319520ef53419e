package mapping_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"topicast/mapping"
)

func TestConditionsThatAreAlwaysOrNeverSatisfied(t *testing.T) {
	for text, want := range map[string]string{
		"size < 0": "never", "size >= 0": "always", "size > 0": "", "size <= 268435455": "always", "size == 1.5": "",
		"u8@0 > 255": "never", "u8@0 <= 255": "", "u8@0 >= 0 || size < 1": "", "u8@0 == 256 || u16@0 == 65536": "never",
		"u16le@3 < 65536 && size < 0": "never", "!(size < 0)": "always", "!(u8@0 > 255)": "", "!!(u8@0 > 255)": "never",
		"i8@0 < -128": "never", "i8@0 >= -128": "", "i8@0 > 127": "never", "i8@0 > 126": "", "i64@0 > 9223372036854775806": "", "i16@0 == 32768": "never", "i32le@0 < -2147483648": "never", "i64@0 < -9223372036854775808": "never",
		"u32@0 > 4294967295": "never", "u32@0 > 4294967294": "", "u64@0 > 18446744073709551615": "never", "u64@0 > 18446744073709551614": "", "u64@0 == -1": "never",
		"1 == 1": "always", "2 == 1": "never", "1 != 1 && id == 3": "never", "2 != 1 || id == 3": "always",
		"u8@0 == u16@0": "", "u8@0 + 1 > 300": "", "id > 5": "", `payload == ""`: "", "json:/a < 0": "", "has(u8@0)": "",
	} {
		c, err := mapping.ParseMessageCondition(text)
		if err != nil {
			t.Errorf("%s: %v", text, err)
			continue
		}
		got := map[bool]string{true: "never"}[c.Never()] + map[bool]string{true: "always"}[c.Always()]
		if got != want {
			t.Errorf("%s: %q, want %q", text, got, want)
		}
	}
	var none mapping.MessageCondition
	if none.Never() || none.Always() {
		t.Error("no condition at all is never, or always, satisfied")
	}
}

func TestKeysWithoutEffectAreWarnedOf(t *testing.T) {
	when := func(text string) func(*mapping.SendRule) {
		return func(r *mapping.SendRule) {
			if err := r.When.UnmarshalText([]byte(text)); err != nil {
				t.Error(err)
			}
		}
	}
	paced := func(rate string, over mapping.WhenOver, maxAge, refresh time.Duration) func(*mapping.SendRule) {
		return func(r *mapping.SendRule) {
			r.WhenOver, r.MaxAge, r.AgeGiven, r.Refresh = over, maxAge, true, refresh
			if err := r.Rate.UnmarshalText([]byte(rate)); err != nil {
				t.Error(err)
			}
		}
	}
	answer := func(within time.Duration, tries uint8) func(*mapping.SendRule) {
		return func(r *mapping.SendRule) {
			topic, err := mapping.ParseAnswerTopic("answers/{x}")
			if err != nil {
				t.Error(err)
			}
			r.MaxAge, r.Answer = 10*time.Second, &mapping.Answer{Topic: topic, Within: within, Tries: tries}
		}
	}
	suffix := func(text string) func(*mapping.SendRule) {
		return func(r *mapping.SendRule) { r.Suffix = affix(t, text) }
	}
	for name, tt := range map[string]struct {
		change func(*mapping.SendRule)
		want   string
	}{
		"a request takes longer": {answer(4*time.Second, 3), "send[0].max_age: 10s is shorter than the 12s that a request may have no answer for (answer: within 4s, tries 3): "},
		"a request is over":      {answer(3*time.Second, 3), ""},
		"a text of backslashes":  {suffix(`\r\n`), `send[0].suffix: "\\r\\n": each datagram has the backslash`},
		"a line's end":           {suffix("\r\n"), ""},
		"another backslash":      {suffix(`a\`), ""},
		"bytes":                  {suffix("hex:0d0a"), ""},
		"nothing":                {func(*mapping.SendRule) {}, ""},
		"never":                  {when("size < 0"), "send[0].when: size < 0: no payload satisfies it, so the rule sends nothing"},
		"always":                 {when("size >= 0"), "send[0].when: size >= 0: every payload satisfies it"},
		"sometimes":              {when("size > 0"), ""},
		"too old for its turn":   {paced("1/h", mapping.OverWait, time.Minute, 0), "send[0].max_age: 1m0s is shorter than the 1h0m0s that a target gets one datagram in (rate: 1/h): "},
		"the latest, likewise":   {paced("1/h", mapping.OverLatest, time.Minute, 0), "send[0].max_age: 1m0s is shorter"},
		"what does not wait":     {paced("1/h", mapping.OverDrop, time.Minute, 0), ""},
		"no limit of age":        {paced("1/h", mapping.OverWait, 0, 0), ""},
		"old enough":             {paced("1/m", mapping.OverWait, time.Minute, 0), ""},
		"never refreshed":        {paced("", mapping.OverWait, time.Second, time.Minute), "send[0].refresh: 1m0s is longer than max_age, 1s, at which"},
		"refreshed":              {paced("", mapping.OverWait, time.Minute, time.Second), ""},
		"refreshed too seldom":   {paced("6/m", mapping.OverWait, time.Minute, time.Second), "send[0].refresh: 1s is shorter than the 10s that a target gets one datagram in (rate: 6/m): it is refreshed no more often than that"},
		"refreshed as rate has":  {paced("1/s", mapping.OverWait, time.Minute, time.Second), ""},
	} {
		t.Run(name, func(t *testing.T) {
			r := rule(t, "a/{x}", "239.1.1.1:5000")
			tt.change(&r)
			got := warnings(compile(t, r))
			if len(got) != len(tt.want[:min(1, len(tt.want))]) || len(got) > 0 && !strings.HasPrefix(got[0], tt.want) {
				t.Errorf("%q, want %q", got, tt.want)
			}
		})
	}
}

func TestConditionsOfReceiveRulesWithoutEffectAreWarnedOf(t *testing.T) {
	condition := func(text string) mapping.ReceiveRule {
		r := receiveRule(t, "239.1.1.1:5000", "a/b")
		if err := r.When.UnmarshalText([]byte(text)); err != nil {
			t.Fatal(err)
		}
		return r
	}
	for text, want := range map[string]string{
		"u8@3 == 300": "receive[0].when: u8@3 == 300: no datagram satisfies it, so the rule publishes nothing",
		"size >= 0":   "receive[0].when: size >= 0: every datagram satisfies it",
		"u8@3 == 30":  "",
	} {
		got := receiveWarnings(t, condition(text))
		if want == "" != (len(got) == 0) || want != "" && !slices.Contains(got, want) {
			t.Errorf("%s: %q", text, got)
		}
	}
}
