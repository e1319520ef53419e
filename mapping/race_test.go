//go:build race

package mapping_test

// raced reports whether the race detector is on, under which sync.Pool, which encoding/json uses,
// forgets things on purpose: then allocations are not counted.
const raced = true
