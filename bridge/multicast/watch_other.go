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
// then it returns ctx's error. It also calls it once at the beginning. Here it
// looks every two seconds.
func Watch(ctx context.Context, changed func()) error {
	before, err := Interfaces()
	if err != nil {
		return err
	}
	changed()
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
			before = now
			changed()
		}
	}
}
