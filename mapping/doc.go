// Package mapping decides which messages go to which targets and which datagrams become which topics; it does no I/O.
package mapping
