//go:build linux

package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"topicast/internal/lab/harness"
)

const webAddress = "127.0.0.1:9479"

// status is the part of /status that the scenarios look at.
type status struct {
	Broker struct {
		Connected     bool     `json:"connected"`
		Connects      int      `json:"connects"`
		Subscriptions int      `json:"subscriptions"`
		Unanswered    int      `json:"unanswered"`
		Refused       []string `json:"refused"`
		Error         string   `json:"error"`
		Protocol      string   `json:"protocol"`
	} `json:"broker"`
	Spool struct {
		Error string `json:"error"`
	} `json:"spool"`
	Rules   []ruleStatus `json:"rules"`
	Receive []ruleStatus `json:"receive"`
}

type ruleStatus struct {
	Name   string `json:"name"`
	State  string `json:"state"`
	Reason string `json:"reason"`
	Joined int    `json:"joined"`         // of receive: sockets that listen
	Memory int    `json:"waiting_memory"` // messages
}

// get asks the status server of the bridge.
func (r *rig) get(path string) ([]byte, error) {
	return harness.Get(r.GW, "http://"+webAddress+path)
}

func (r *rig) status() (st status, err error) {
	body, err := r.get("/status")
	if err != nil {
		return st, err
	}
	return st, json.Unmarshal(body, &st)
}

// awaitStatus waits until the status is as wanted; want returns what it lacks.
func (r *rig) awaitStatus(limit time.Duration, want func(status) error) error {
	var last error
	ok := r.until(limit, func() bool {
		st, err := r.status()
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
		last = r.ctx.Err()
	}
	return fmt.Errorf("not after %v: %w", limit, last)
}

// expectStatus fails the row unless the status is as wanted in time.
func (r *rig) expectStatus(limit time.Duration, want func(status) error) {
	if err := r.awaitStatus(limit, want); err != nil {
		r.fail("%v", err)
	}
}

// awaitUp waits until every rule is up.
func (r *rig) awaitUp(limit time.Duration) error {
	return r.awaitStatus(limit, func(st status) error {
		for _, rule := range append(st.Rules, st.Receive...) {
			if rule.State != "up" {
				return fmt.Errorf("rule %s is %s: %s", rule.Name, rule.State, rule.Reason)
			}
		}
		if spoken := st.Broker.Protocol; spoken != r.protocol.Spoken() {
			return fmt.Errorf("MQTT %s is spoken with the broker, not %s", spoken, r.protocol.Spoken())
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

func (r *rig) metrics() ([]harness.Sample, error) {
	body, err := r.get("/metrics")
	if err != nil {
		return nil, err
	}
	return harness.ParseMetrics(string(body)), nil
}
