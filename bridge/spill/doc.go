// Package spill keeps what a rule cannot pass on now, in order, on disk, until it can.
//
// [Queues] are those of one direction in the spool. A [Queue] is a rule's: what is appended
// comes back from its front in the same order, at least once, until it is removed. What is
// on the disk without a rule, or of a rule that has become another one by a reload or a
// restart, finds its rule by what that is ([Heirs]), or is kept until it is too old.
package spill
