//go:build linux

package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"
)

const webAddress = "127.0.0.1:9479"

// status is the part of /status that the stories look at.
type status struct {
	Broker struct {
		Connected     bool     `json:"connected"`
		Connects      int      `json:"connects"`
		Subscriptions int      `json:"subscriptions"`
		Unanswered    int      `json:"unanswered"`
		Refused       []string `json:"refused"`
		Error         string   `json:"error"`
	} `json:"broker"`
	Rules   []ruleStatus `json:"rules"`
	Receive []ruleStatus `json:"receive"`
}

type ruleStatus struct {
	Name   string `json:"name"`
	State  string `json:"state"`
	Reason string `json:"reason"`
	Joined int    `json:"joined"` // of receive: sockets that listen
}

// get asks the status server of the bridge.
func (s *stage) get(path string) ([]byte, error) {
	web := http.Client{Transport: &http.Transport{DialContext: s.GW.Dial, DisableKeepAlives: true}, Timeout: 2 * time.Second}
	r, err := web.Get("http://" + webAddress + path)
	if err != nil {
		return nil, err
	}
	defer r.Body.Close()
	return io.ReadAll(r.Body)
}

func (s *stage) status() (st status, err error) {
	body, err := s.get("/status")
	if err != nil {
		return st, err
	}
	return st, json.Unmarshal(body, &st)
}

// awaitStatus waits until the status is as wanted; want says what it lacks.
func (s *stage) awaitStatus(limit time.Duration, want func(status) error) error {
	var last error
	ok := s.until(limit, func() bool {
		st, err := s.status()
		if err == nil {
			err = want(st)
		}
		last = err
		return err == nil
	})
	if ok {
		return nil
	}
	if last == nil {
		last = s.ctx.Err()
	}
	return fmt.Errorf("not after %v: %w", limit, last)
}

// awaitUp waits until every rule is up.
func (s *stage) awaitUp(limit time.Duration) error {
	return s.awaitStatus(limit, func(st status) error {
		for _, r := range append(st.Rules, st.Receive...) {
			if r.State != "up" {
				return fmt.Errorf("rule %s is %s: %s", r.Name, r.State, r.Reason)
			}
		}
		return connected(st)
	})
}

// connected is the least that a bridge must be for its broker to keep messages for
// it: subscribed.
func connected(st status) error {
	if !st.Broker.Connected || st.Broker.Unanswered > 0 {
		return errors.New("not connected with the broker: " + st.Broker.Error)
	}
	return nil
}

// A sample is one line of /metrics.
type sample struct {
	name   string
	labels map[string]string
	value  float64
}

func (s *stage) metrics() ([]sample, error) {
	body, err := s.get("/metrics")
	if err != nil {
		return nil, err
	}
	return parseMetrics(string(body)), nil
}

// parseMetrics reads the text format of Prometheus as far as the names of
// topicast's labels, which have no commas and quotes in their values, need it.
func parseMetrics(text string) (samples []sample) {
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		i := strings.LastIndexByte(line, ' ')
		if i < 0 || strings.HasPrefix(line, "#") {
			continue
		}
		value, err := strconv.ParseFloat(line[i+1:], 64)
		if err != nil {
			continue
		}
		m := sample{value: value, labels: map[string]string{}}
		var labels string
		m.name, labels, _ = strings.Cut(line[:i], "{")
		for pair := range strings.SplitSeq(strings.TrimSuffix(labels, "}"), ",") {
			if key, quoted, ok := strings.Cut(pair, "="); ok {
				m.labels[key] = strings.Trim(quoted, `"`)
			}
		}
		samples = append(samples, m)
	}
	return samples
}
