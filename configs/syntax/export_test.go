package syntax

// PlainYAML is the reader for plain YAML, AnyYAML the one over the library.
func PlainYAML(data []byte) (root Node, ok bool) {
	root, ok, _ = parsePlainYAML(data)
	return root, ok
}

const (
	MaxValues = maxValues
	MaxKeys   = maxKeys
)

func AnyYAML(data []byte) (Node, *Error) { return parseAnyYAML(data, Keys{}) }

// NewLines finds places by offset.
var NewLines = newLines

func (l *lines) PlaceOf(offset int) Place { return l.place(offset) }
