// Package session keeps one MQTT session with a broker.
package session
