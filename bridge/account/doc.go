// Package account counts what was carried, filtered and dropped, and bounds what waits.
package account
