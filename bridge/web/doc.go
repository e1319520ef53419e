// Package web serves the status page, metrics and health checks.
package web
