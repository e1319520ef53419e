package syntax

import (
	"bytes"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
)

// Keys says which words are keys: Parse then recognises url=x and url:x in YAML as
// slips, and says to write url: x. The zero Keys knows none.
type Keys struct {
	Known  func(word string) bool // reports whether a word is a key
	Secret func(key string) bool  // reports whether its value must not be shown
}

func (k Keys) has(word string) bool { return k.Known != nil && k.Known(word) }

// An Error is a text that is not of its format.
type Error struct {
	At   Place
	Err  error
	Hint string // what to do, or ""
}

func (e *Error) Error() string { return e.Err.Error() }
func (e *Error) Unwrap() error { return e.Err }

// ErrTag is a tag of YAML such as !env, which no format here has a meaning for.
var ErrTag = errors.New("a tag that means nothing here")

// Parse reads data in the format that the extension of the file's name says: .yaml or
// .yml, .toml, .json. A file of nothing but comments is Null.
func Parse(name string, data []byte, keys Keys) (Node, *Error) {
	data = bytes.TrimPrefix(data, []byte("\xef\xbb\xbf")) // a byte order mark, as Windows editors write
	err := &Error{Hint: "name it .yaml, .toml or .json"}
	switch ext := strings.ToLower(filepath.Ext(name)); ext {
	case ".yaml", ".yml":
		return parseYAML(data, keys)
	case ".toml":
		return parseTOML(data)
	case ".json":
		return parseJSON(data)
	case "":
		err.Err = errors.New("has no extension, which tells the format")
	default:
		err.Err = fmt.Errorf("the extension %q is of no format that is known here", ext)
	}
	return Node{}, err
}
