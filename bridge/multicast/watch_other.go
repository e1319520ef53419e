//go:build !linux

package multicast

import (
	"context"
	"reflect"
	"time"
)

// watchEvery is how often Watch looks.
const watchEvery = 2 * time.Second

// Watch calls changed after changes of interfaces and addresses until ctx ends;
// then it returns ctx's error. The first call says that it has begun to watch, and
// has Overflow set: of what was before it knows nothing. Here it looks every two
// seconds, and misses what comes and goes between two looks.
func Watch(ctx context.Context, changed func(Change)) error {
	before, err := Interfaces()
	if err != nil {
		return err
	}
	known := make(links)
	known.compare(nil, before)
	changed(Change{Overflow: true})
	t := time.NewTicker(watchEvery)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-t.C:
		}
		now, err := Interfaces()
		if err != nil {
			return err
		}
		if !reflect.DeepEqual(before, now) {
			changed(known.compare(before, now))
			before = now
		}
	}
}

// compare tells what became of the interfaces between two looks. An index whose
// name is another belongs to another interface.
func (ls links) compare(before, now []Interface) (c Change) {
	names := make(map[int]string)
	for _, i := range now {
		names[i.Index] = i.Name
	}
	for _, i := range before {
		if names[i.Index] != i.Name {
			ls.lose(i.Index, &c)
		}
	}
	for _, i := range now {
		ls.see(i.Index, link{works: i.Usable() == nil}, &c)
	}
	return c
}
