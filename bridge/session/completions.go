package session

// completions are the outcomes that Origins are still to be told, in order.
type completions []completion

type completion struct {
	run
	err     error        // nil: they are published
	refused *Publication // the one that it is, if that was given up; a copy
}

func (c *completions) published(r run)       { c.add(r, nil) }
func (c *completions) lost(r run, why error) { c.add(r, why) }

func (c *completions) add(r run, why error) {
	if r.n == 0 {
		return
	}
	if n := len(*c); n > 0 {
		if last := &(*c)[n-1]; last.origin == r.origin && last.err == why && last.refused == nil {
			last.n += r.n
			last.bytes += r.bytes
			return
		}
	}
	*c = append(*c, completion{run: r, err: why})
}

// gaveUp is for one message that the broker does not take, of which Origins are told of so many bytes.
func (c *completions) gaveUp(p *Publication, bytes int, why error) {
	*c = append(*c, completion{run{p.Origin, 1, bytes}, why, p})
}

// notify tells the Origins. Callers hold notifyMu, and not mu.
func (o *outbox) notify() {
	for i := range o.completions {
		c := &o.completions[i]
		o.outstanding.Add(-int64(c.n))
		if c.err == nil {
			o.published.Add(uint64(c.n))
		}
		if c.refused != nil {
			if r, ok := c.origin.(Refuser); ok {
				r.Refused(c.refused, c.err)
			}
		}
		switch {
		case c.origin == nil:
		case c.err == nil:
			c.origin.Published(c.n, c.bytes)
		default:
			c.origin.Lost(c.n, c.bytes, c.err)
		}
	}
	clear(o.completions)
	o.completions = o.completions[:0]
}
