// Package fake is a network and a broker session that tests write the script of.
package fake
