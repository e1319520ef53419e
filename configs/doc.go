// Package configs defines the configuration file, loads it, and holds its commented reference.
//
// [Load] reads a file in YAML, TOML or JSON into one tree of keys and values
// that remember their line and column, decodes it strictly, and compiles its
// rules. It reports every fault at once, each with its place, its path and,
// where there is one, what to do about it.
//
// A scalar outside the rules may also come from a flag or from the
// environment. The order is flag, variable, file, default: broker.url is
// --broker-url, TOPICAST_BROKER_URL, url in the section broker. A variable that
// is set but empty counts as not set; one that begins with TOPICAST_ and is of no
// key is a fault. The rules come from the file only.
//
// Keys, like everything else, are case-sensitive: Group is an unknown key, not
// another spelling of group.
package configs
