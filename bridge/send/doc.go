// Package send carries messages to the network.
package send
