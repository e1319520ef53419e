//go:build linux

package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// Where the build has a spool, all other faults run with it too. These are those of
// the spool itself, and the limits that are set to be exceeded.
var spoolFaults = []fault{
	{name: "on-down-drop", about: "on_down: drop, link down and up", ways: sendOnly, needs: "spool", limited: true, prepare: onDownDrop, run: linkDown},
	{name: "on-down-latest", about: "on_down: latest, link down and up", ways: sendOnly, needs: "spool", limited: true, prepare: onDownLatest, run: linkDown},
	{name: "max-age", about: "max_age exceeded, link down and up", ways: sendOnly, needs: "spool", limited: true, prepare: youngOnly, run: linkDownLong},
	{name: "max-size", about: "spool's max_size exceeded, link down and up", ways: sendOnly, needs: "spool", limited: true, prepare: smallSpool, run: linkDownLong},
	{name: "disk-full", about: "disk full, link down and up", ways: sendOnly, needs: "spool", limited: true, prepare: smallDisk, run: linkDownLong},
	{name: "spool-read-only", about: "spool's folder is read-only, link down and up", ways: sendOnly, needs: "spool", limited: true, prepare: readOnlyDisk, run: linkDown},
	{name: "spool-torn", about: "spool's file torn while topicast was away", ways: sendOnly, needs: "spool", limited: true, prepare: deepQueue, run: spoolTorn},
	{name: "spool-kept", about: "topicast killed with a full spool", ways: sendOnly, needs: "spool", prepare: deepQueue, run: spoolKept},
	{name: "spool-kept-offline", about: "topicast killed with a full spool, the broker away", ways: receiveOnly, needs: "spool", deaf: true, run: spoolKeptOffline},
	{name: "spool-shared", about: "a second process on the same spool", ways: sendOnly, needs: "spool", prepare: deepQueue, run: spoolShared},
}

func onDownDrop(s *stage)   { s.rules.extra = "on_down: drop" }
func onDownLatest(s *stage) { s.rules.extra = "on_down: latest" }
func youngOnly(s *stage)    { s.rules.extra = "max_age: 1s" }
func smallSpool(s *stage)   { s.rules.spool = "max_size: 256KiB" }
func smallDisk(s *stage)    { s.disk = "size=512k" }

// readOnlyDisk leaves what waits to the broker.
func readOnlyDisk(s *stage) {
	deepQueue(s)
	s.disk = "ro"
}

// linkDownLong is long enough for the limits above, and for messages younger than
// them to be there as well.
func linkDownLong(s *stage) {
	s.GW.Down(iso0)
	s.pass(max(s.times.hold, 4*time.Second))
	s.GW.Up(iso0)
}

func spoolKept(s *stage) {
	s.GW.Down(iso0)
	s.hold()
	s.killBridge()
	s.rules.absent = true
	if err := s.startBridge(); err != nil {
		s.fail("%v", err)
	}
	s.hold()
	s.GW.Up(iso0)
}

// spoolKeptOffline has datagrams come in for a broker that is away, before and after
// topicast is killed.
func spoolKeptOffline(s *stage) {
	s.stopBroker()
	err := s.awaitStatus(s.times.heal, func(st status) error {
		if st.Broker.Connected {
			return errors.New("it counts as connected")
		}
		return nil
	})
	if err != nil {
		s.fail("%v", err)
	}
	s.hear() // what was on its way to the broker when it went is in memory, and is lost with topicast
	s.hold()
	s.cut()
	s.pass(200 * time.Millisecond) // what was in memory is lost with it; let it reach the disk
	s.killBridge()
	s.runBridge()
	err = s.awaitStatus(s.times.heal, func(st status) error {
		for _, r := range st.Receive {
			if r.Joined == 0 {
				return fmt.Errorf("rule %s does not listen: %s", r.Name, r.Reason)
			}
		}
		return nil
	})
	if err != nil {
		s.fail("%v", err)
	}
	s.hear()
	s.hold()
	s.restartBroker()
}

// spoolTorn overwrites the end of the largest file of the spool, as a disk does that
// had not written its last pages when the power went.
func spoolTorn(s *stage) {
	s.GW.Down(iso0)
	s.hold()
	s.killBridge()
	if err := tear(s.spoolDir()); err != nil {
		s.fail("%v", err)
	}
	s.rules.absent = true
	if err := s.startBridge(); err != nil {
		s.fail("%v", err)
	}
	s.GW.Up(iso0)
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

// spoolShared starts a second topicast by mistake, which has to say what is wrong
// and must not harm the first.
func spoolShared(s *stage) {
	second := strings.NewReplacer("client_id: "+gatewayID, "client_id: second", webAddress, "127.0.0.1:9480").Replace(s.config())
	s.write("second.yaml", second)
	p := s.GW.Start(s.build.binary, "run", "--config", s.file("second.yaml"))
	s.started = append(s.started, named{"second", p})
	if !s.until(s.times.heal, func() bool { return strings.Contains(p.Output(), "another process") }) {
		s.fail("the second does not say that another process has the spool: %s", p.Output())
	}
	s.GW.Down(iso0)
	s.hold()
	s.GW.Up(iso0)
	p.Kill()
}
