// Package broker is a small in-process MQTT broker for the demo and the tests.
package broker
