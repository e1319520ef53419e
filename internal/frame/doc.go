// Package frame reads the datagrams and the membership reports in packets of IP, and puts fragments together.
package frame
