// Package syntax reads YAML, TOML and JSON into one tree that knows lines and columns.
//
// [Parse] takes the format from the name of the file. Keys keep their case, and equal
// keys of a table are all in the tree: what to make of them is for the caller.
// A text that is not of its format is an [Error] with the place of the slip and, for
// the usual ones, with what to write.
package syntax
