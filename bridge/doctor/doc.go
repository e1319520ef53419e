// Package doctor finds out why nothing arrives, or leaves, from what a host and a running bridge show.
//
// It only looks. The flow, in the order of the files:
//
//  1. the caller says what is looked at: a Subject for each rule, or for a group that no rule has
//     (subject.go);
//  2. Look takes two pictures of the host, with some seconds between them in which it listens
//     (look.go): counters of the kernel (counters.go), the firewall (ruleset.go), what
//     reaches a socket (live.go) and what is on the wire (wire.go), and what the bridge says of itself;
//  3. Examine holds each subject against every check (examine.go). A check is a function of the
//     Snapshot alone (checks_*.go), so that each is tested without a network and without root;
//  4. causes that another one explains are left out, and the rest is put into the order of the
//     way of a datagram (cause.go).
package doctor
