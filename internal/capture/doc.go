// Package capture reads capture files, pcap and pcapng, and writes pcapng, one packet at a time.
//
// The formats are those of draft-ietf-opsawg-pcap and draft-ietf-opsawg-pcapng. A library
// (gopacket) was weighed: it takes memory as a damaged file says, and adds two megabytes to
// the program, most of it protocols.
package capture
