//go:build linux

package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"topicast/internal/lab/harness"
)

// Where the build has a spool, all other faults run with it too. These are those of
// the spool itself, and the limits that are set to be exceeded.
var spoolFaults = []fault{
	{name: "on-down-drop", about: "on_down: drop, link down and up", ways: sendOnly, needs: "spool", limited: true, prepare: onDownDrop, run: linkDown},
	{name: "on-down-latest", about: "on_down: latest, link down and up", ways: sendOnly, needs: "spool", limited: true, prepare: onDownLatest, run: linkDown},
	{name: "max-age", about: "max_age exceeded, link down and up", ways: sendOnly, needs: "spool", limited: true, prepare: youngOnly, run: linkDownLong},
	{name: "max-size", about: "spool's max_size exceeded, link down and up", ways: sendOnly, needs: "spool", limited: true, prepare: smallSpool, run: linkDownLong},
	{name: "disk-full", about: "disk full, link down and up", ways: sendOnly, needs: "spool", prepare: smallDisk, run: linkDownLong},
	{name: "spool-read-only", about: "spool's folder is read-only, link down and up", ways: sendOnly, needs: "spool", prepare: readOnlyDisk, run: linkDown},
	{name: "spool-torn", about: "spool's file torn while topicast was away", ways: sendOnly, needs: "spool", limited: true, prepare: deepQueue, run: spoolTorn},
	{name: "spool-kept", about: "topicast killed with a full spool", ways: sendOnly, needs: "spool", prepare: deepQueue, run: spoolKept},
	{name: "spool-kept-offline", about: "topicast killed with a full spool, the broker away", ways: receiveOnly, needs: "spool", cannotReceive: true, run: spoolKeptOffline},
	{name: "spool-shared", about: "a second process on the same spool", ways: sendOnly, needs: "spool", prepare: deepQueue, run: spoolShared},
}

func onDownDrop(r *rig)   { r.rules.extra = "on_down: drop" }
func onDownLatest(r *rig) { r.rules.extra = "on_down: latest" }
func youngOnly(r *rig)    { r.rules.extra = "max_age: 1s" }
func smallSpool(r *rig)   { r.rules.spool = "max_size: 256KiB" }

// smallDisk and readOnlyDisk leave to the broker what there is no room for.
func smallDisk(r *rig) {
	deepQueue(r)
	r.disk = "size=512k"
}

func readOnlyDisk(r *rig) {
	deepQueue(r)
	r.disk = "ro"
}

// linkDownLong is long enough for the limits above, and for messages younger than
// them to be there as well.
func linkDownLong(r *rig) {
	r.GW.Down(iso0)
	r.pause(max(r.times.hold, 4*time.Second))
	r.GW.Up(iso0)
}

func spoolKept(r *rig) {
	r.GW.Down(iso0)
	r.hold()
	r.killBridge()
	r.startAgain()
	r.hold()
	r.GW.Up(iso0)
}

// spoolKeptOffline has datagrams come in for a broker that is away, before and after
// topicast is killed.
func spoolKeptOffline(r *rig) {
	r.loseBroker()
	r.openSpans() // what was on its way to the broker when it went is in memory, and is lost with topicast
	r.hold()
	r.closeSpans()
	r.pause(200 * time.Millisecond) // what was in memory is lost with it; let it reach the disk
	r.killListening()
	r.hold()
	r.restartBroker()
}

// spoolTorn overwrites the end of the largest file of the spool, as a disk does that
// had not written its last pages when the power went.
func spoolTorn(r *rig) {
	r.GW.Down(iso0)
	r.hold()
	r.killBridge()
	if err := tear(r.spoolDir()); err != nil {
		r.fail("%v", err)
	}
	r.startAgain()
	r.GW.Up(iso0)
}

// tear overwrites the last page of the largest file in a folder.
func tear(dir string) error {
	const page = 4096
	files, err := filepath.Glob(filepath.Join(dir, "*"))
	if err != nil {
		return err
	}
	largest, size := "", int64(0)
	for _, f := range files {
		if info, err := os.Stat(f); err == nil && info.Size() > size {
			largest, size = f, info.Size()
		}
	}
	if size < page {
		return fmt.Errorf("no file to tear in %s", dir)
	}
	f, err := os.OpenFile(largest, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = f.WriteAt([]byte(strings.Repeat("torn", page/4)), size-page)
	if e := f.Close(); err == nil {
		err = e
	}
	return err
}

// spoolShared starts a second topicast by mistake, which has to log what is wrong
// and must not harm the first.
func spoolShared(r *rig) {
	second := strings.NewReplacer("client_id: "+gatewayID, "client_id: second", webAddress, "127.0.0.1:9480").Replace(r.config())
	r.write("second.yaml", second)
	p := r.GW.Start(r.build.binary, "run", "--config", r.file("second.yaml"))
	r.processes = append(r.processes, harness.LoggedProcess{Name: "second", Process: p})
	if !r.until(r.times.heal, func() bool { return strings.Contains(p.Output(), "another process") }) {
		r.fail("the second does not log that another process has the spool: %s", p.Output())
	}
	r.GW.Down(iso0)
	r.hold()
	p.Kill() // or both would send what they have
	r.GW.Up(iso0)
}

// loseBroker stops the broker and waits until topicast has noticed.
func (r *rig) loseBroker() {
	r.stopBroker()
	r.expectStatus(r.times.heal, func(st status) error {
		if st.Broker.Connected {
			return errors.New("it counts as connected")
		}
		return nil
	})
}
