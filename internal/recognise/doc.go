// Package recognise tells which protocol a flow of datagrams speaks, by their bytes.
//
// Each protocol has a function over the payload of one datagram, which names the
// specification that it goes by. What one datagram cannot show (RTP has no mark of its own)
// a [Flow] finds in several. Ports and groups alone never name a protocol; they support what
// the bytes leave open.
package recognise
