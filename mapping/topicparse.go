package mapping

import (
	"fmt"
	"strconv"
	"strings"
)

// parseTopic reads a template. Where it may have captures, names that are not known are some.
func parseTopic(s string, captures bool) (Topic, error) {
	if err := checkText(s); err != nil {
		return Topic{}, err
	}
	names := append([]string(nil), datumNames...)
	h, err := parseHoles(s, &names)
	if err != nil {
		return Topic{}, err
	}
	t := Topic{text: s}
	for _, name := range names[len(datumNames):] {
		e, n, _ := lexExtract(name)
		switch {
		case n == 0 && captures:
			e = extract{kind: extractCapture, text: name}
		case n == 0:
			return Topic{}, unknownDatum(name)
		case e.isProperty():
			return Topic{}, e.errNoProperties()
		}
		t.fields = append(t.fields, e)
	}
	if len(t.fields) > maxFields {
		return Topic{}, fmt.Errorf("has %d fields of the payload, and may have %d", len(t.fields), maxFields)
	}
	t.addText(h.literal[0])
	for i, code := range h.code {
		p, err := newPart(h.text[i], code, t.fields)
		if err != nil {
			return Topic{}, err
		}
		t.parts = append(t.parts, p)
		t.addText(h.literal[i+1])
	}
	if err := checkFilled(t.fill("")); err != nil {
		if strings.ContainsAny(s, "+#") {
			err = fmt.Errorf("%w; what varies is taken from the datagram, as by {source} or {group}", err)
		}
		return Topic{}, err
	}
	return t, nil
}

// maxFields is how many fields of the payload a topic may have.
const maxFields = 32

func unknownDatum(name string) error {
	err := fmt.Errorf("{%s} is none of {%s}", name, strings.Join(datumNames, "}, {"))
	if meant := nearWord(name, datumNames); meant != "" {
		return fmt.Errorf("%w; did you mean {%s}", err, meant)
	}
	return fmt.Errorf("%w, nor a field of the payload, such as {u32@20}, {text@0:6} or {json:/id}", err)
}

// newPart makes a part of an expression; of one without names, the text that it
// always comes to.
func newPart(text string, code program, fields []extract) (part, error) {
	if i, bare := code.bare(); bare {
		if i >= len(datumNames) {
			return part{kind: datumField, text: text, field: i - len(datumNames)}, nil
		}
		return part{kind: datum(i), text: text}, nil
	}
	for i := range fields {
		if e := &fields[i]; (e.kind == extractHex || e.kind == extractText) && code.uses(datum(len(datumNames)+i)) {
			return part{}, fmt.Errorf("%s: %s is a text, with which there is no arithmetic; write it alone, as in {%s}", text, e.text, e.text)
		}
	}
	if code.uses(datumInterface) || code.uses(datumName) {
		return part{}, fmt.Errorf("%s: interface and name are texts, with which there is no arithmetic; write them alone, as in {name}", text)
	}
	if !code.constant() {
		return part{kind: datumNumber, text: text, code: code}, nil
	}
	value, _, trouble := code.run(nil)
	if trouble != "" {
		return part{}, fmt.Errorf("%s is %s, not a number", text, trouble)
	}
	return part{kind: datumText, text: strconv.FormatInt(value, 10)}, nil
}

// addText adds a text as it stands, if there is any.
func (t *Topic) addText(text string) {
	if text != "" {
		t.parts = append(t.parts, part{kind: datumText, text: text})
	}
}

// uses reports whether an expression has this operand.
func (p program) uses(d datum) bool {
	for _, s := range p {
		if s.op == opOperand && datum(s.arg) == d {
			return true
		}
	}
	return false
}
