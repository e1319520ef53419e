package session

// completions are the outcomes that Origins are still to be told, in order.
type completions struct {
	runs []run
	errs []error // of each run; nil: it is published
}

func (c *completions) published(r run)       { c.add(r, nil) }
func (c *completions) lost(r run, why error) { c.add(r, why) }

func (c *completions) add(r run, why error) {
	if r.n == 0 {
		return
	}
	if last := len(c.runs) - 1; last >= 0 && c.runs[last].origin == r.origin && c.errs[last] == why {
		c.runs[last].n += r.n
		c.runs[last].bytes += r.bytes
		return
	}
	c.runs, c.errs = append(c.runs, r), append(c.errs, why)
}

// notify tells the Origins. Callers hold notifyMu, and not mu.
func (o *outbox) notify() {
	for i, r := range o.completions.runs {
		o.outstanding.Add(-int64(r.n))
		why := o.completions.errs[i]
		if why == nil {
			o.published.Add(uint64(r.n))
		}
		switch {
		case r.origin == nil:
		case why == nil:
			r.origin.Published(r.n, r.bytes)
		default:
			r.origin.Lost(r.n, r.bytes, why)
		}
	}
	clear(o.completions.runs)
	o.completions.runs, o.completions.errs = o.completions.runs[:0], o.completions.errs[:0]
}
