package configs

import _ "embed"

// Reference is reference.yaml: every key with its default, its bounds and its
// reason. It is a configuration that Load accepts.
//
//go:embed reference.yaml
var Reference []byte
