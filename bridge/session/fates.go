package session

// fates are what Origins are still to be told, in order.
type fates struct {
	runs []run
	errs []error // of each run; nil: it is published
}

func (f *fates) published(r run)       { f.add(r, nil) }
func (f *fates) lost(r run, why error) { f.add(r, why) }

func (f *fates) add(r run, why error) {
	if r.n == 0 {
		return
	}
	if last := len(f.runs) - 1; last >= 0 && f.runs[last].origin == r.origin && f.errs[last] == why {
		f.runs[last].n += r.n
		f.runs[last].bytes += r.bytes
		return
	}
	f.runs, f.errs = append(f.runs, r), append(f.errs, why)
}

// tell tells the Origins. Callers hold telling, and not mu.
func (o *outbox) tell() {
	for i, r := range o.fates.runs {
		o.outstanding.Add(-int64(r.n))
		why := o.fates.errs[i]
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
	clear(o.fates.runs)
	o.fates.runs, o.fates.errs = o.fates.runs[:0], o.fates.errs[:0]
}
