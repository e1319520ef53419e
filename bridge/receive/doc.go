// Package receive carries datagrams to the broker.
package receive
