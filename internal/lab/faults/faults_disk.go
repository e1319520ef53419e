//go:build linux

package main

import (
	"errors"
	"os"
	"time"

	"topicast/internal/lab/harness"
)

// What keeps the spool from being used, at the start and later, and how that ends.
var diskFaults = []fault{
	{name: "spool-late", about: "spool unusable at the start, usable later, topicast killed", ways: sendOnly, needs: "spool", prepare: spoolBrokenAtStart, run: spoolRestored},
	{name: "spool-breaks", about: "spool unusable well later, and usable again", ways: sendOnly, needs: "spool", prepare: deepQueue, run: spoolBreaks},
	{name: "spool-breaks-offline", about: "spool unusable well later, and usable again, the broker away", ways: receiveOnly, needs: "spool", cannotReceive: true, run: spoolBreaksOffline},
	{name: "spool-removed", about: "spool's folder removed while messages wait, topicast killed", ways: sendOnly, needs: "spool", prepare: deepQueue, run: spoolRemoved},
}

// spoolBrokenAtStart has a file in place of the spool's folder.
func spoolBrokenAtStart(r *rig) {
	deepQueue(r)
	r.breakSpool()
}

func (r *rig) breakSpool() {
	dir := r.spoolDir()
	if err := errors.Join(os.Rename(dir, dir+"-away"), os.WriteFile(dir, nil, 0o600)); err != nil {
		r.fail("%v", err)
	}
}

// restoreSpool has the folder there again, as it was, at one moment: for else topicast makes
// another in between.
func (r *rig) restoreSpool() {
	dir, link := r.spoolDir(), r.file("link")
	if err := errors.Join(os.Symlink(dir+"-away", link), os.Rename(link, dir)); err != nil {
		r.fail("%v", err)
	}
}

// expectSpool fails the row unless the status, the readiness and the metrics soon show
// that the spool can be used, or that it cannot.
func (r *rig) expectSpool(usable bool) {
	r.expectStatus(r.times.heal, func(st status) error {
		if (st.Spool.Error == "") != usable {
			return errors.New("the status has of the spool: " + st.Spool.Error)
		}
		samples, err := r.metrics()
		if err != nil {
			return err
		}
		for _, m := range samples {
			if m.Name == "topicast_spool_usable" && (m.Value == 1) == usable {
				return nil
			}
		}
		return errors.New("topicast_spool_usable has another value")
	})
}

// spoolRestored kills topicast when what waited in memory has gone to the disk, so that
// it is there or with the broker.
func spoolRestored(r *rig) {
	r.expectSpool(false)
	r.GW.Down(iso0)
	r.hold()
	r.restoreSpool()
	r.expectSpool(true)
	r.hold()
	r.killBridge()
	r.startAgain()
	r.GW.Up(iso0)
}

func spoolBreaks(r *rig) {
	r.GW.Down(iso0)
	r.hold()
	r.breakAndRestoreSpool()
	r.GW.Up(iso0)
}

func spoolBreaksOffline(r *rig) {
	r.loseBroker()
	r.openSpans() // what was on its way to the broker when it went is another row's
	r.hold()
	r.breakAndRestoreSpool()
	r.restartBroker()
}

func (r *rig) breakAndRestoreSpool() {
	r.breakSpool()
	r.hold()
	r.expectSpool(false)
	r.restoreSpool()
	r.expectSpool(true)
	r.hold()
}

// spoolRemoved gives topicast the time to find out by itself.
func spoolRemoved(r *rig) {
	r.GW.Down(iso0)
	r.hold()
	var err error
	// topicast may make a file between the last that is removed and the folder.
	if !r.until(harness.Patience, func() bool { err = os.RemoveAll(r.spoolDir()); return err == nil }) {
		r.fail("%v", err)
	}
	r.hold()
	r.pause(200 * time.Millisecond)
	r.killBridge()
	r.startAgain()
	r.GW.Up(iso0)
}
