// Package spool keeps messages on disk in order until they can go on.
//
// A [Spool] is a folder: a log in segments, in which each record has a checksum of its
// own, and two files of states that say what is done. It holds queues, one for each
// rule, and a queue holds records, oldest first. What is appended is written by one goroutine, all that
// waits at once, and is safe when its done function is called with nil: on disk,
// and there again after a crash. What is removed may come again after a crash,
// so a record is seen at least once.
package spool
