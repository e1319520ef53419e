package mapping

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// Properties are what a message of MQTT 5 says beside its payload, section 3.3.2.3; nil: nothing, as with
// MQTT 3.1.1.
type Properties interface {
	// User is the value of a user property, of several of one name the first.
	User(name string) (value []byte, ok bool)
	// ContentType is what the payload is said to be.
	ContentType() (value []byte, ok bool)
}

// propertyWord begins a user property, as in property.room and property."device-id": a name in quotes
// may hold what else would be an operator.
const propertyWord = "property."

// lexProperty reads the user property that s begins with, and says how long it is; 0: it begins with
// another thing.
func lexProperty(s string) (e extract, n int, err error) {
	rest, is := strings.CutPrefix(s, propertyWord)
	if !is {
		return e, 0, nil
	}
	name := ""
	if strings.HasPrefix(rest, `"`) {
		quoted, err := strconv.QuotedPrefix(rest)
		if err == nil {
			name, err = strconv.Unquote(quoted)
		}
		if err != nil {
			return e, 0, errors.New(`property." is followed by no text that ends in "`)
		}
		n = len(propertyWord) + len(quoted)
	} else {
		n = nameLength(rest)
		name = rest[:n]
		if more := rest[n:]; n > 0 && len(more) > 1 && strings.ContainsRune("-./:", rune(more[0])) && nameLength(more[1:]) > 0 {
			end := n + 1 + nameLength(more[1:])
			return e, 0, fmt.Errorf(`property.%s: a name with %c in it stands in quotes, property."%[1]s"; what is an operator has a blank before it`, rest[:end], more[0])
		}
		n += len(propertyWord)
	}
	if name == "" || checkText(name) != nil {
		return e, 0, errors.New(`property. is followed by no name of a user property, as in property.room or property."device-id"`)
	}
	return extract{kind: extractProperty, text: s[:n], name: name}, n, nil
}

// errNoProperties refuses a property where there is no message.
func (e *extract) errNoProperties() error {
	return fmt.Errorf("%s is a property of a message of MQTT 5, and a datagram has none", e.text)
}

// property is the value among a message's properties.
func (e *extract) property(of Properties) (value []byte, ok bool) {
	switch {
	case of == nil:
		return nil, false
	case e.kind == extractContentType:
		return of.ContentType()
	}
	return of.User(e.name)
}

// isProperty reports whether it is none of the payload.
func (e *extract) isProperty() bool { return e.kind == extractProperty || e.kind == extractContentType }

// errNoProperty says that a message has no such property.
func (e *extract) errNoProperty() *GroupError {
	return &GroupError{Part: "{" + e.text + "}", Value: "no user property of the message", Want: "there"}
}

// propertyOperand is the value for arithmetic, or why there is none.
func (e *extract) propertyOperand(of Properties) (operand, *GroupError) {
	value, ok := e.property(of)
	if !ok {
		return operand{}, e.errNoProperty()
	}
	i, ok := number(value)
	if !ok {
		return operand{}, &GroupError{Part: "{" + e.text + "}", Value: quote(short(value)), Want: "a whole number of 63 bits"}
	}
	return operand{i, true}, nil
}

// PropertyNames are the user properties that the target depends on.
func (g Group) PropertyNames() (names []string) {
	if g.IsZero() {
		return nil
	}
	for i := range g.payload {
		if e := &g.payload[i]; e.kind == extractProperty {
			names = append(names, e.name)
		}
	}
	return names
}
