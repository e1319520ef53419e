package syntax_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"topicast/configs/syntax"
)

// Other alphabets and the line ends of Windows are plain YAML too, with columns in characters.
func TestPlainYAMLKnowsOtherAlphabets(t *testing.T) {
	const text = "# Zähler\r\nsend: # für alle\r\n  - { name: \"Küche ü\", filter: '温度/#', group: x } # ä\r\n  - name: Büro\r\n"
	plain, ok := syntax.PlainYAML([]byte(text))
	if !ok {
		t.Fatal("not read")
	}
	any, err := syntax.AnyYAML([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(any, plain, cmp.AllowUnexported(syntax.Node{})); diff != "" {
		t.Errorf("(-library +plain)\n%s", diff)
	}
	for _, not := range []string{"a: x\u2028y\n", "a: \"x\u0085\"\n", "a: x\ufeff\n", "a: \"\xff\"\n", "a: x\ry\n", "a: \ue000\n"} {
		if _, ok := syntax.PlainYAML([]byte(not)); ok {
			t.Errorf("%q is for the library", not)
		}
	}
}
