package session

import "time"

// maxPingTimeout bounds how long the broker may take for a sign of life. On a
// slow line the question waits behind what is written; see minUnsent.
const maxPingTimeout = 20 * time.Second

// keepAlive is the goroutine that asks the broker for a sign of life, each half of
// interval, and ends a connection on which none comes for as long as interval. That
// also keeps the promise of CONNECT to let the broker hear from us within interval
// [MQTT-3.1.2-23]: the question goes out whatever else is written.
//
// Any byte is a sign of life. The PINGRESP of a broker that is busy with messages
// over a slow line comes behind them. And while the reader is busy with messages that
// have come, with many that many rules send for example, it may be there and not read
// yet: only the time counts that the reader has waited in vain.
func (c *mqttConn) keepAlive(interval time.Duration) {
	limit := min(interval, maxPingTimeout)
	timer := time.NewTimer(interval / 2)
	defer timer.Stop()
	for {
		select {
		case <-timer.C:
		case <-c.done:
			return
		}
		asked := time.Now()
		c.pingPending.Store(true)
		if !c.askAlive(timer, limit) {
			return
		}
		timer.Reset(interval/2 - time.Since(asked))
	}
}

// askAlive asks for a sign of life and waits for it. It is false when the connection is over.
func (c *mqttConn) askAlive(timer *time.Timer, limit time.Duration) bool {
	for wait := limit; wait > 0; wait = limit - c.silence() {
		if c.writeFrame(pingreqFrame, c.done) != nil { // again: the broker is to hear from us all the same
			return false
		}
		timer.Reset(wait)
		select {
		case <-c.alive:
			return true
		case <-timer.C:
			if !c.pingPending.Load() {
				<-c.alive // it came just now
				return true
			}
		case <-c.done:
			return false
		}
	}
	_ = c.fail(errNoPingresp)
	return false
}

// silence is for how long the reader has waited for a byte; 0 while it is busy.
func (c *mqttConn) silence() time.Duration {
	if since := c.readSince.Load(); since > 0 {
		return time.Since(c.begun) - time.Duration(since)
	}
	return 0
}

// noteAlive takes note of bytes from the broker.
func (c *mqttConn) noteAlive() {
	if c.pingPending.Load() {
		c.pingPending.Store(false)
		c.stray = 0
		c.alive <- struct{}{}
	}
}
