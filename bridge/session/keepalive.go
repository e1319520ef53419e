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
// over a slow line comes behind them.
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
		c.pingPending.Store(true)
		if c.writeFrame(pingreqFrame, c.done) != nil {
			return
		}
		asked := time.Now()
		timer.Reset(limit)
		select {
		case <-c.alive:
		case <-timer.C:
			if c.pingPending.Load() {
				_ = c.fail(errNoPingresp)
				return
			}
			<-c.alive // it came just now
		case <-c.done:
			return
		}
		timer.Reset(interval/2 - time.Since(asked))
	}
}

// noteAlive takes note of bytes from the broker.
func (c *mqttConn) noteAlive() {
	if c.pingPending.Load() {
		c.pingPending.Store(false)
		c.stray = 0
		c.alive <- struct{}{}
	}
}
