// Package tap tells those who watch what becomes of each message and datagram, as it happens.
package tap
