package mapping

import (
	"encoding/hex"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"unicode"
)

// maxCondition is how long a condition may be, which bounds what a message costs.
const maxCondition = 4096

// A valueType is what is known of a value before there is a payload.
type valueType uint8

const (
	typeTruth   valueType = iota
	typeNumber            // an integer, or of a literal a fraction
	typeText              // text or bytes
	typeBytes             // bytes that are shown in hexadecimal
	typeAddress           // of a datagram: a text beside a text, else the number that expressions have of it
	typeAny               // of a document or a topic: what the other side is
)

var typeNames = [...]string{
	typeTruth: "a comparison", typeNumber: "a number", typeText: "a text", typeBytes: "bytes", typeAddress: "an address", typeAny: "a value",
}

// parseCondition reads a condition, of datagrams or of messages; nil is that of "".
func parseCondition(s string, datagrams bool) (*condition, error) {
	if s == "" {
		return nil, nil
	}
	p := conditionParser{compiler: compiler{rest: s}, whole: s, datagrams: datagrams, into: &condition{text: s}}
	p.names = &p.into.names
	if err := p.parse(); err != nil {
		return nil, fmt.Errorf("when %s: column %d: %w", quote(s), p.at+1, err)
	}
	return p.into, nil
}

// A conditionParser is a Pratt parser as the compiler of expressions is, whose words and
// operators it has. Its nodes have types: what never can be compared is an error.
type conditionParser struct {
	compiler
	whole     string
	datagrams bool
	at        int // where the error is
	into      *condition
}

// A term is a node and its type.
type term struct {
	node   int32
	kind   valueType
	at     int // where it begins
	length int // of bytes whose number is fixed: how many
	// literal: it is a text between quotes.
	literal bool
}

func (p *conditionParser) parse() error {
	if len(p.whole) > maxCondition {
		return fmt.Errorf("has %d bytes, and may have %d", len(p.whole), maxCondition)
	}
	for i, r := range p.whole {
		if unicode.IsControl(r) && r != '\t' && r != '\n' && r != '\r' || r == unicode.ReplacementChar {
			p.at = i
			return errors.New("a control character, or no UTF-8; in a text write it as \\x00")
		}
	}
	p.skip(0)
	t, err := p.binary(0, 1)
	if err != nil {
		return err
	}
	if p.rest != "" {
		p.mark()
		return p.strange()
	}
	if t.kind != typeTruth {
		p.at = t.at
		return fmt.Errorf("is %s; compare it with something, as in u16@16 == 0x6069", typeNames[t.kind])
	}
	return nil
}

// mark has an error be where the parser is.
func (p *conditionParser) mark() { p.at = len(p.whole) - len(p.rest) }

// skip moves on by n bytes and over what is blank; a condition may have several lines.
func (p *conditionParser) skip(n int) { p.rest = strings.TrimLeft(p.rest[n:], " \t\r\n") }

// relations are the operators of conditions, sorted so that no entry hides a longer one. Their
// precedence is Go's, below that of arithmetic.
var relations = []struct {
	text       string
	precedence int
	op         nodeOp
}{
	{"||", 1, nodeOr}, {"&&", 2, nodeAnd},
	{"==", 3, nodeEqual}, {"!=", 3, nodeUnequal}, {"<=", 3, nodeAtMost}, {">=", 3, nodeAtLeast},
	{"<", 3, nodeLess}, {">", 3, nodeMore},
	{"contains", 3, nodeContains}, {"begins", 3, nodeBegins}, {"ends", 3, nodeEnds},
}

// next returns the operator that comes next, and Go's precedence of it; 0 where none does.
func (p *conditionParser) next() (text string, precedence int, op nodeOp, arith opcode) {
	if !strings.HasPrefix(p.rest, "<<") && !strings.HasPrefix(p.rest, ">>") {
		for _, r := range relations {
			if strings.HasPrefix(p.rest, r.text) && (!isLetter(r.text[0]) || nameLength(p.rest) == len(r.text)) {
				return r.text, r.precedence, r.op, 0
			}
		}
	}
	text, precedence, arith = p.operator()
	return text, precedence, nodeArithmetic, arith
}

// binary parses operands and the operators between them, as long as these bind tighter than
// the one to the left.
func (p *conditionParser) binary(left, depth int) (term, error) {
	if depth > maxDepth {
		p.mark()
		return term{}, fmt.Errorf("nested more than %d deep", maxDepth)
	}
	a, err := p.unary(depth)
	for err == nil {
		text, precedence, op, arith := p.next()
		if precedence <= left {
			break
		}
		at := len(p.whole) - len(p.rest)
		p.skip(len(text))
		var b term
		if b, err = p.binary(precedence, depth+1); err == nil {
			a, err = p.combine(a, b, op, arith, text, at)
		}
	}
	return a, err
}

// unary parses a value, a condition in parentheses, and either behind a !.
func (p *conditionParser) unary(depth int) (term, error) {
	start := len(p.whole) - len(p.rest)
	switch {
	case strings.HasPrefix(p.rest, "!") && !strings.HasPrefix(p.rest, "!="):
		p.skip(1)
		if depth >= maxDepth {
			p.mark()
			return term{}, fmt.Errorf("nested more than %d deep", maxDepth)
		}
		t, err := p.unary(depth + 1)
		if err == nil && t.kind != typeTruth {
			p.at = t.at
			err = fmt.Errorf("! stands before a condition, and this is %s; put it in parentheses, as in !(u8@0 == 1)", typeNames[t.kind])
		}
		return p.add(whenNode{op: nodeNot, left: t.node}, typeTruth, start), err
	case strings.HasPrefix(p.rest, "("):
		p.skip(1)
		t, err := p.binary(0, depth+1)
		if err != nil {
			return t, err
		}
		if !strings.HasPrefix(p.rest, ")") {
			p.mark()
			return t, p.strange()
		}
		p.skip(1)
		t.at = start
		return t, nil
	}
	return p.value(start, depth)
}

// add adds a node.
func (p *conditionParser) add(n whenNode, kind valueType, at int) term {
	p.into.nodes = append(p.into.nodes, n)
	return term{node: int32(len(p.into.nodes) - 1), kind: kind, at: at}
}

// value parses a literal, a field of the payload or a name.
func (p *conditionParser) value(at, depth int) (term, error) {
	p.at = at
	if e, n, err := lexExtract(p.rest); err != nil || n > 0 {
		if err != nil {
			return term{}, err
		}
		if e.isProperty() && p.datagrams {
			return term{}, e.errNoProperties()
		}
		p.skip(n)
		t := p.add(whenNode{op: nodeExtract, extract: &e}, [...]valueType{typeNumber, typeBytes, typeText, typeAny, typeAny}[e.kind], at)
		t.length = e.length
		return t, nil
	}
	switch {
	case p.rest == "":
		return term{}, errors.New("ends where a value should follow")
	case p.rest[0] == '"':
		quoted, err := strconv.QuotedPrefix(p.rest)
		if err != nil {
			return term{}, errors.New(`the text has no " at its end, or a \ that means nothing`)
		}
		text, err := strconv.Unquote(quoted)
		if err != nil {
			return term{}, err
		}
		p.skip(len(quoted))
		t := p.add(whenNode{op: nodeText, text: []byte(text)}, typeText, at)
		t.literal = true
		return t, nil
	case strings.HasPrefix(p.rest, "hex:"):
		n := 4
		for n < len(p.rest) && (isDigit(p.rest[n]) || isLetter(p.rest[n])) {
			n++
		}
		bytes, err := hex.DecodeString(p.rest[4:n])
		if err != nil || n == 4 {
			return term{}, fmt.Errorf("%s is followed by no bytes of two hexadecimal digits each, as hex:0d0a is", p.rest[:n])
		}
		p.skip(n)
		t := p.add(whenNode{op: nodeText, text: bytes}, typeText, at)
		t.length = len(bytes)
		return t, nil
	case isDigit(p.rest[0]), p.rest[0] == '-':
		return p.literal(at)
	}
	if n := nameLength(p.rest); n > 0 {
		return p.name(p.rest[:n], at, depth)
	}
	return term{}, p.strange()
}

// literal parses a number.
func (p *conditionParser) literal(at int) (term, error) {
	n := 1 // it may be a sign
	for n < len(p.rest) && (isDigit(p.rest[n]) || isLetter(p.rest[n]) || p.rest[n] == '.') {
		n++
	}
	text := p.rest[:n]
	digits, negative := strings.CutPrefix(text, "-")
	if len(digits) > 1 && digits[0] == '0' && isDigit(digits[1]) {
		return term{}, fmt.Errorf("the number %s begins with 0, which some read as octal; write it without", text)
	}
	var v numeric
	var ok bool
	if hexadecimal, is := strings.CutPrefix(digits, "0x"); is && !negative {
		u, err := strconv.ParseUint(hexadecimal, 16, 64)
		v, ok = unsigned(u), err == nil && hexadecimal != ""
	} else if is || strings.ContainsAny(digits, "eE") {
	} else {
		v, ok = readNumber([]byte(text))
	}
	if !ok || strings.HasSuffix(text, ".") {
		return term{}, fmt.Errorf("%s is not a number of 64 bits, in decimal or 0x…, nor one with a fraction such as 21.5", text)
	}
	p.skip(n)
	return p.add(whenNode{op: nodeNumber, number: v}, typeNumber, at), nil
}

// name parses a word.
func (p *conditionParser) name(word string, at, depth int) (term, error) {
	p.skip(len(word))
	switch word {
	case "payload":
		return p.add(whenNode{op: nodePayload}, typeText, at), nil
	case "size":
		return p.add(whenNode{op: nodeSize}, typeNumber, at), nil
	case "true", "false":
		return p.add(whenNode{op: nodeText, text: []byte(word)}, typeText, at), nil
	case "has":
		if !strings.HasPrefix(p.rest, "(") {
			return term{}, errors.New("has asks whether a field is there, as in has(json:/id)")
		}
		t, err := p.unary(depth)
		if err != nil {
			return t, err
		}
		if t.kind == typeTruth {
			p.at = t.at
			return t, errors.New("has asks whether a field is there, and this is a condition")
		}
		return p.add(whenNode{op: nodeHas, left: t.node}, typeTruth, at), nil
	case "content_type":
		if !p.datagrams {
			e := extract{kind: extractContentType, text: word}
			return p.add(whenNode{op: nodeExtract, extract: &e}, typeText, at), nil
		}
	case "and", "or", "not":
		return term{}, fmt.Errorf("%s is written %s", word, map[string]string{"and": "&&", "or": "||", "not": "!"}[word])
	case "topic":
		if !p.datagrams {
			return p.add(whenNode{op: nodeTopic}, typeText, at), nil
		}
		return term{}, errors.New("a datagram has no topic yet; when asks for its payload, and for {" + strings.Join(datumNames, "}, {") + "} without the braces")
	}
	if !p.datagrams {
		return p.add(whenNode{op: nodeName, name: intern(p.names, word)}, typeAny, at), nil
	}
	for i, known := range datumNames {
		if word != known {
			continue
		}
		kind := typeNumber
		switch datum(i) {
		case datumGroup, datumSource:
			kind = typeAddress
		case datumInterface, datumName:
			kind = typeText
		}
		intern(p.names, word)
		return p.add(whenNode{op: nodeName, name: i}, kind, at), nil
	}
	err := fmt.Errorf("%s is none of %s, payload, size and the fields of a payload such as u16@16 or json:/id", word, strings.Join(datumNames, ", "))
	if meant := nearWord(word, datumNames); meant != "" {
		err = fmt.Errorf("%w; did you mean %s", err, meant)
	}
	return term{}, err
}

// strange says what is the matter with what comes next, where an operator or a value should.
func (p *conditionParser) strange() error {
	switch {
	case p.rest == "":
		return errors.New("ends where a ) should follow")
	case strings.HasPrefix(p.rest, "="):
		return errors.New("= is no operator; == compares")
	case strings.HasPrefix(p.rest, "'"):
		return errors.New(`a text stands between ", not '`)
	case strings.HasPrefix(p.rest, "{"):
		return errors.New("in when, names and fields stand without braces")
	}
	for word, instead := range map[string]string{"and": "&&", "or": "||"} {
		if n := nameLength(p.rest); n > 0 && strings.EqualFold(p.rest[:n], word) {
			return fmt.Errorf("%s is written %s", p.rest[:n], instead)
		}
	}
	return fmt.Errorf("nothing that can stand here: %s", quote(p.rest))
}

// combine makes a node of an operator and the values beside it. at is where the operator is.
func (p *conditionParser) combine(a, b term, op nodeOp, arith opcode, text string, at int) (term, error) {
	refuse := func(about term, format string, args ...any) (term, error) {
		p.at = about.at
		return a, fmt.Errorf(format, args...)
	}
	n := whenNode{op: op, arith: arith, left: a.node, right: b.node}
	switch op {
	case nodeAnd, nodeOr:
		for _, t := range []term{a, b} {
			if t.kind != typeTruth {
				return refuse(t, "%s stands between conditions, and this is %s", text, typeNames[t.kind])
			}
		}
		return p.add(n, typeTruth, a.at), nil
	case nodeArithmetic:
		for _, t := range []term{a, b} {
			if t.kind != typeNumber && t.kind != typeAddress && t.kind != typeAny {
				return refuse(t, "%s is between numbers, and this is %s", text, typeNames[t.kind])
			}
		}
		return p.add(n, typeNumber, a.at), nil
	}
	for _, t := range []term{a, b} {
		if t.kind == typeTruth {
			return refuse(t, "%s is between values, and this is a comparison; parts of a condition stand between && and ||", text)
		}
	}
	ordered := op >= nodeLess && op <= nodeAtLeast
	texts := a.kind == typeText || a.kind == typeBytes || b.kind == typeText || b.kind == typeBytes
	numbers := a.kind == typeNumber || a.kind == typeAddress || b.kind == typeNumber || b.kind == typeAddress
	switch {
	case ordered && texts:
		return refuse(pick(a, b, typeText, typeBytes), "%s is between numbers, and this is a text", text)
	case op >= nodeContains && a.kind == typeNumber:
		return refuse(a, "%s is between texts, and this is a number", text)
	case op >= nodeContains && b.kind == typeNumber:
		return refuse(b, "%s is between texts, and this is a number", text)
	case texts || op >= nodeContains || !numbers && !ordered:
		if err := p.compareTexts(&a, &b, op, text); err != nil {
			return a, err
		}
		switch op {
		case nodeEqual:
			n.op = nodeEqualText
		case nodeUnequal:
			n.op = nodeUnequalText
		}
	}
	return p.add(n, typeTruth, a.at), nil
}

// pick returns the first of two terms that is of one of two types.
func pick(a, b term, kinds ...valueType) term {
	if slices.Contains(kinds, a.kind) {
		return a
	}
	return b
}

// compareTexts makes two values ready to be compared as texts, or tells why they cannot be.
func (p *conditionParser) compareTexts(a, b *term, op nodeOp, text string) error {
	for _, pair := range [][2]*term{{a, b}, {b, a}} {
		t, other := pair[0], pair[1]
		literal := &p.into.nodes[other.node]
		p.at = other.at
		switch {
		case t.kind == typeNumber:
			p.at = t.at
			return fmt.Errorf("%s is between values of one kind, and this is a number, beside a text", text)
		case t.kind == typeAddress:
			address, err := netip.ParseAddr(string(literal.text))
			if err != nil || !other.literal || op >= nodeContains {
				return fmt.Errorf("an address is compared with one, as in source == \"192.0.2.7\"")
			}
			literal.text = []byte(address.WithZone("").String())
		case t.kind == typeBytes && other.literal: // it is shown in hexadecimal
			bytes, err := hex.DecodeString(string(literal.text))
			if err != nil {
				return fmt.Errorf("hex@ is compared with two hexadecimal digits for each byte, and %s has others", quote(string(literal.text)))
			}
			literal.text, other.literal, other.length = bytes, false, len(bytes)
		case t.kind == typeBytes && other.kind != typeBytes && other.length == 0:
			return errors.New("hex@ is compared with its digits, as in hex@0:2 == \"0d0a\"; for other texts there is text@")
		}
		whole := op == nodeEqual || op == nodeUnequal
		switch {
		case t.kind == typeBytes && whole && other.length != t.length:
			return fmt.Errorf("compares %d bytes with %d, which never are the same", t.length, other.length)
		case t.kind == typeText && t.length > 0 && whole && other.literal && len(literal.text) > t.length:
			return fmt.Errorf("compares %d bytes with a text of %d, which never are the same", t.length, len(literal.text))
		}
	}
	return nil
}
