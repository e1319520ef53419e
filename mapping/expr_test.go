package mapping

import (
	"math"
	"math/big"
	"strings"
	"testing"
)

func evaluate(t testing.TB, text string, captures map[string]string) (int64, string) {
	t.Helper()
	var names []string
	code, err := compileExpr(text, &names)
	if err != nil {
		t.Fatal(err)
	}
	var values []string
	for _, name := range names {
		values = append(values, captures[name])
	}
	value, _, trouble := code.run(numbers(nil, values))
	return value, trouble
}

func TestExpressionFollowsGo(t *testing.T) {
	const a, b, c = 11, 3, 250
	captures := map[string]string{"a": "11", "b": "3", "c": "250"}
	tests := map[string]int64{
		"a":                     a,
		" a ":                   a,
		"7":                     7,
		"0":                     0,
		"0xFf":                  0xff,
		"a+b*c":                 a + b*c,
		"(a+b)*c":               (a + b) * c,
		"a-b-c":                 a - b - c,
		"a-(b-c)":               a - (b - c),
		"c/a/b":                 c / a / b,
		"c%a*b":                 c % a * b,
		"c/(a%b)":               c / (a % b),
		"a<<b+1":                a<<b + 1, // Go, not C: << binds like *
		"1+b<<2":                1 + b<<2,
		"c>>b&7":                c >> b & 7,
		"a&c|b":                 a&c | b,
		"a|c&b":                 a | c&b,
		"a^b|c":                 a ^ b | c,
		"a+b^c-1":               a + b ^ c - 1,
		"b-a":                   b - a,
		"(b-a)/b":               (b - a) / b,
		"(b-a)%b":               (b - a) % b,
		"(b-a)>>1":              (b - a) >> 1,
		"9223372036854775807-1": math.MaxInt64 - 1,
		"((((((((((a))))))))))": a,
		strings.Repeat("(", 14) + "a" + strings.Repeat(")", 14): a,
		"a+a+a+a+a+a+a+a+a+a+a+a+a+a+a+a+a+a+a+a":               20 * a,
		"30000\t+ a": 30000 + a,
	}
	for text, want := range tests {
		if got, trouble := evaluate(t, text, captures); got != want || trouble != "" {
			t.Errorf("{%s} is %d %s, want %d", text, got, trouble, want)
		}
	}
}

func TestExpressionRefuses(t *testing.T) {
	tests := map[string]string{
		"":                      "ends where a name, a number or ( should follow",
		"  ":                    "ends where a name",
		"a+":                    "ends where a name",
		"(a":                    "ends where an operator or ) should follow",
		"(a b)":                 `an operator or ) should stand in place of "b)"`,
		"a)":                    `an operator should stand in place of ")"`,
		"+a":                    `a name, a number or ( should stand in place of "+a"`,
		"-1":                    `should stand in place of "-1"`,
		"a**b":                  `should stand in place of "*b"`,
		"a&&b":                  `should stand in place of "&b"`,
		"a&^b":                  `should stand in place of "^b"`,
		"a<b":                   `an operator should stand in place of "<b"`,
		"a==b":                  `an operator should stand in place of "==b"`,
		"a#":                    `an operator should stand in place of "#"`,
		"é":                     "should stand in place of",
		"1.5":                   `an operator should stand in place of ".5"`,
		"010":                   "the number 010 begins with 0",
		"1a":                    "1a is not a number",
		"1_000":                 "1_000 is not a number",
		"0x":                    "0x is not a number",
		"0b1":                   "begins with 0",
		"9223372036854775808":   "is not a number of 63 bits",
		"0x8000000000000000":    "is not a number of 63 bits",
		strings.Repeat("(", 99): "nested more than 15 deep",
		strings.Repeat("(", 15) + "1" + strings.Repeat(")", 15):   "nested more than 15 deep",
		strings.Repeat("1-(", 20) + "1" + strings.Repeat(")", 20): "nested more than 15 deep",
	}
	for text, says := range tests {
		var names []string
		if _, err := compileExpr(text, &names); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("{%s}: %v, want: %s", text, err, says)
		}
	}
}

// At the limit of nesting the stack must still do.
func TestExpressionAtTheLimitOfNesting(t *testing.T) {
	for depth := 1; ; depth++ {
		text := strings.Repeat("1+(a*", depth) + "a" + strings.Repeat(")", depth)
		var names []string
		code, err := compileExpr(text, &names)
		if err != nil {
			if depth < 5 {
				t.Errorf("{%s}: %v", text, err)
			}
			return
		}
		if got, _, trouble := code.run([]operand{{1, true}}); got != int64(depth)+1 || trouble != "" {
			t.Errorf("{%s} is %d %s", text, got, trouble)
		}
	}
}

// apply must say overflow exactly where a number without bounds would not fit.
func TestArithmeticNeverWraps(t *testing.T) {
	edges := []int64{math.MinInt64, math.MinInt64 + 1, math.MinInt32, -64, -63, -3, -2, -1, 0, 1, 2, 3, 62, 63, 64, 255, 1 << 31, 3037000499, 3037000500, 1 << 62, math.MaxInt64 - 1, math.MaxInt64}
	exact := map[opcode]func(z, a, b *big.Int) *big.Int{
		opAdd: (*big.Int).Add, opSub: (*big.Int).Sub, opMul: (*big.Int).Mul, opDiv: (*big.Int).Quo, opMod: (*big.Int).Rem,
		opAnd: (*big.Int).And, opOr: (*big.Int).Or, opXor: (*big.Int).Xor,
		opShl: func(z, a, b *big.Int) *big.Int { return z.Lsh(a, uint(b.Int64())) },
		opShr: func(z, a, b *big.Int) *big.Int { return z.Rsh(a, uint(b.Int64())) },
	}
	for op, f := range exact {
		for _, a := range edges {
			for _, b := range edges {
				got, trouble := apply(op, a, b)
				wantTrouble := ""
				switch {
				case (op == opDiv || op == opMod) && b == 0:
					wantTrouble = byZero
				case (op == opShl || op == opShr) && (b < 0 || b > 63):
					wantTrouble = wildShift
				}
				if wantTrouble == "" {
					want := f(new(big.Int), big.NewInt(a), big.NewInt(b))
					if !want.IsInt64() {
						wantTrouble = overflow
					} else if got != want.Int64() {
						t.Errorf("%d op%d %d is %d, want %s", a, op, b, got, want)
					}
				}
				if trouble != wantTrouble {
					t.Errorf("%d op%d %d: %q, want %q", a, op, b, trouble, wantTrouble)
				}
			}
		}
	}
}
