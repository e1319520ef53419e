package mapping

import (
	"fmt"
	"math"
	"strconv"
	"strings"
)

// An expression is integer arithmetic on names, as in {30000 + id}: the captures
// of a filter, or what is known of a datagram. It has Go's operators
// + - * / % << >> & | ^ with Go's precedence, parentheses, and integers in
// decimal or 0x. Its values are int64 and whatever does not fit is
// an error, never a wrapped number: a datagram goes to the right group or to none.
//
// An expression is compiled once to a program for a stack machine, so that a
// message costs a few steps and no allocation.
type program []step

// A step pushes a constant, pushes an operand, or replaces the two values on top
// of the stack by the result of an operator.
type step struct {
	op  opcode
	arg int64 // the constant, or the index of the operand
}

// An operand is the value that a name has for one message or datagram.
type operand struct {
	value  int64
	number bool // else it is a text that is none
}

type opcode uint8

const (
	opConst opcode = iota
	opOperand
	opAdd
	opSub
	opMul
	opDiv
	opMod
	opShl
	opShr
	opAnd
	opOr
	opXor
)

// operators are sorted so that no entry hides a longer one behind it.
var operators = []struct {
	text       string
	precedence int // Go's, https://go.dev/ref/spec#Operator_precedence
	op         opcode
}{
	{"<<", 5, opShl}, {">>", 5, opShr}, {"*", 5, opMul}, {"/", 5, opDiv}, {"%", 5, opMod}, {"&", 5, opAnd},
	{"+", 4, opAdd}, {"-", 4, opSub}, {"|", 4, opOr}, {"^", 4, opXor},
}

// maxDepth bounds the nesting of an expression, and by it the stack: each level
// of nesting keeps at most one value waiting for its right-hand side.
const maxDepth = 15

// compileExpr compiles the text between { and }. Operands are known by the
// index of their names in names, which grows by those that are new.
func compileExpr(text string, names *[]string) (program, error) {
	c := compiler{rest: text, names: names}
	err := c.expression(0, 1)
	if err == nil && c.rest != "" {
		err = c.unexpected("an operator")
	}
	if err != nil {
		return nil, fmt.Errorf("{%s}: %w", text, err)
	}
	return c.code, nil
}

// A compiler is a Pratt parser that emits code as it goes. rest has no leading
// blanks once the first operand is read.
type compiler struct {
	rest  string
	names *[]string
	code  program
}

// expression compiles operands and the operators between them, as long as these
// bind tighter than the one to the left.
func (c *compiler) expression(left, depth int) error {
	if depth > maxDepth {
		return fmt.Errorf("nested more than %d deep", maxDepth)
	}
	if err := c.operand(depth); err != nil {
		return err
	}
	for {
		text, precedence, op := c.operator()
		if precedence <= left {
			return nil
		}
		c.skip(len(text))
		if err := c.expression(precedence, depth+1); err != nil {
			return err
		}
		c.code = append(c.code, step{op: op})
	}
}

// operator returns the operator that comes next; precedence 0 where none does.
func (c *compiler) operator() (text string, precedence int, op opcode) {
	for _, o := range operators {
		if strings.HasPrefix(c.rest, o.text) {
			return o.text, o.precedence, o.op
		}
	}
	return "", 0, 0
}

// operand compiles a name, a number or an expression in parentheses.
func (c *compiler) operand(depth int) error {
	c.skip(0)
	if strings.HasPrefix(c.rest, "(") {
		c.skip(1)
		if err := c.expression(0, depth+1); err != nil {
			return err
		}
		if !strings.HasPrefix(c.rest, ")") {
			return c.unexpected("an operator or )")
		}
		c.skip(1)
		return nil
	}
	e, n, err := lexExtract(c.rest)
	switch {
	case err != nil:
		return err
	case n > 0: // known by its text, like a name
		c.code = append(c.code, step{opOperand, int64(intern(c.names, e.text))})
		c.skip(n)
		return nil
	}
	if n := nameLength(c.rest); n > 0 {
		c.code = append(c.code, step{opOperand, int64(intern(c.names, c.rest[:n]))})
		c.skip(n)
		return nil
	}
	return c.number()
}

func (c *compiler) number() error {
	n := 0
	for n < len(c.rest) && (isDigit(c.rest[n]) || isLetter(c.rest[n])) {
		n++
	}
	text := c.rest[:n]
	if n == 0 {
		return c.unexpected("a name, a number or (")
	}
	digits, base := text, 10
	if hex, ok := strings.CutPrefix(text, "0x"); ok {
		digits, base = hex, 16
	} else if n > 1 && text[0] == '0' {
		return fmt.Errorf("the number %s begins with 0, which some read as octal; write it without", text)
	}
	value, err := strconv.ParseInt(digits, base, 64)
	if err != nil {
		return fmt.Errorf("%s is not a number of 63 bits; numbers are decimal or 0x…", text)
	}
	c.code = append(c.code, step{opConst, value})
	c.skip(n)
	return nil
}

// skip moves on by n bytes and over the blanks that follow.
func (c *compiler) skip(n int) { c.rest = strings.TrimLeft(c.rest[n:], " \t") }

func (c *compiler) unexpected(wanted string) error {
	if c.rest == "" {
		return fmt.Errorf("ends where %s should follow", wanted)
	}
	return fmt.Errorf("%s should stand in place of %s", wanted, quote(c.rest))
}

// intern returns the index of name in names, adding it where it is new.
func intern(names *[]string, name string) int {
	for i, known := range *names {
		if known == name {
			return i
		}
	}
	*names = append(*names, name)
	return len(*names) - 1
}

// bare returns the index of the operand that is the whole program, if so.
func (p program) bare() (index int, ok bool) {
	if len(p) == 1 && p[0].op == opOperand {
		return int(p[0].arg), true
	}
	return 0, false
}

// constant reports whether the program uses no operands.
func (p program) constant() bool {
	for _, s := range p {
		if s.op == opOperand {
			return false
		}
	}
	return true
}

// run returns the program's value for these operands. If there is none, it
// returns what is the matter, and the operand to blame for it or -1.
func (p program) run(operands []operand) (value int64, blame int, trouble string) {
	var stack [maxDepth]int64
	top := -1
	for _, s := range p {
		switch s.op {
		case opConst:
			top++
			stack[top] = s.arg
		case opOperand:
			if !operands[s.arg].number {
				return 0, int(s.arg), "a decimal number"
			}
			top++
			stack[top] = operands[s.arg].value
		default:
			v, trouble := apply(s.op, stack[top-1], stack[top])
			if trouble != "" {
				return 0, -1, trouble
			}
			top--
			stack[top] = v
		}
	}
	return stack[0], -1, ""
}

// numbers appends to dst the operands that captures are.
func numbers(dst []operand, captures []string) []operand {
	for _, c := range captures {
		value, ok := number(c)
		dst = append(dst, operand{value, ok})
	}
	return dst
}

// number reads a capture: decimal digits, leading zeros allowed, no sign and no
// blank, at most 2^63-1.
func number[T string | []byte](s T) (value int64, ok bool) {
	for i := range len(s) {
		d := int64(s[i] - '0')
		if !isDigit(s[i]) || value > (math.MaxInt64-d)/10 {
			return 0, false
		}
		value = value*10 + d
	}
	return value, len(s) > 0
}

const (
	overflow  = "a number beyond 64 bits"
	byZero    = "a division by zero"
	wildShift = "a shift by less than 0 or more than 63"
)

// apply returns a op b, or why there is no such number.
func apply(op opcode, a, b int64) (v int64, trouble string) {
	switch op {
	case opAdd:
		if v = a + b; v > a != (b > 0) {
			return 0, overflow
		}
	case opSub:
		if v = a - b; v < a != (b > 0) {
			return 0, overflow
		}
	case opMul:
		v = a * b
		if a != 0 && (v/a != b || a == -1 && b == math.MinInt64) {
			return 0, overflow
		}
	case opDiv, opMod:
		return divide(op, a, b)
	case opShl, opShr:
		return shift(op, a, b)
	case opAnd:
		v = a & b
	case opOr:
		v = a | b
	case opXor:
		v = a ^ b
	}
	return v, ""
}

func divide(op opcode, a, b int64) (v int64, trouble string) {
	switch {
	case b == 0:
		return 0, byZero
	case op == opMod:
		return a % b, ""
	case a == math.MinInt64 && b == -1:
		return 0, overflow
	}
	return a / b, ""
}

func shift(op opcode, a, b int64) (v int64, trouble string) {
	switch {
	case b < 0 || b > 63:
		return 0, wildShift
	case op == opShr:
		return a >> b, ""
	case a<<b>>b != a:
		return 0, overflow
	}
	return a << b, ""
}
