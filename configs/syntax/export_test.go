package syntax

// PlainYAML is the reader for plain YAML, AnyYAML the one over the library.
func PlainYAML(data []byte) (root Node, ok bool) {
	root, ok, _ = parsePlainYAML(data)
	return root, ok
}

const (
	MaxValues  = maxValues
	MaxCounted = maxCounted
	MaxLines   = maxLines
	MaxItems   = maxItems
	MaxText    = maxText
	MaxKeys    = maxKeys
)

func AnyYAML(data []byte) (Node, *Error) { return parseAnyYAML(data, Keys{}) }

// NewLines finds places by offset.
var NewLines = newLines

func (l *lines) PlaceOf(offset int) Place { return l.place(offset) }
