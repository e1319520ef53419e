// Package multicast sends and receives datagrams in batches on sockets bound to a source, and watches the interfaces they use.
package multicast
