//go:build linux

package main

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
	"time"
)

// What one rule does to what all share, and what a disk does.
var spoolAttacks = []attack{
	{name: "spool-fill", about: "one rule away fills the spool, another is away for one second", victims: []string{neighbourSend}, lossless: true, pends: true, prepare: smallSpool, run: fillSpool},
	{name: "queue-fill", about: "one rule away with QoS 2 fills the queue, without a spool", pends: true, prepare: noSpool, run: fillQueue},
	{name: "offline-chatty", about: "a chatty group while the broker is away", victims: []string{neighbourReceive}, lossless: true, stops: true, prepare: chatty, run: chattyOffline},
	{name: "spool-damaged", about: "each fifth page of the spool overwritten while topicast is away", victims: toSend, run: damageSpool},
	{name: "spool-removed", about: "the spool's folder removed while messages wait", victims: toSend, run: removeSpool},
	{name: "spool-mounted", about: "another disk mounted over the spool's folder while messages wait", victims: toSend, run: mountOverSpool},
	{name: "spool-read-only", about: "a file in place of the spool's folder while messages wait", victims: toSend, run: replaceSpool},
}

func smallSpool(r *rig) {
	r.setup.spool = "max_size: 4MiB"
	awayRule(r)
}

// awayRule is a rule whose interface is not there.
func awayRule(r *rig) {
	r.setup.send = append(r.setup.send, "name: away, filter: 'away/#', group: '239.53.1.1:5000', interface: none0")
	r.watch("away", "", netip.AddrPort{})
}

// fillSpool has ten times as much wait as there is room for.
func fillSpool(r *rig) {
	r.publishMany(5000, r.many(20000), "away", func(i int) string { return fmt.Sprintf("away/%d", i%100) }, make([]byte, 2000))
	r.unplug(iso1, neighbourReceive)
	r.pause(prompt)
	r.GW.PushCable(iso1)
	r.awaitState(neighbourSend, "up", mostHeal)
	r.awaitState(neighbourReceive, "up", mostHeal)
	r.streams[neighbourReceive].rest(false)
}

// noSpool leaves the messages that there is no room for with the broker, which does not tell
// how many those are.
func noSpool(r *rig) {
	r.setup.spool = "none"
	r.setup.sections = "queue: { size: 1MiB }\n"
	r.setup.send = append(r.setup.send, "name: away, filter: 'away/#', qos: 2, group: '239.53.1.1:5000', interface: none0")
}

func fillQueue(r *rig) {
	r.publishMany(5000, r.many(20000), "", func(i int) string { return fmt.Sprintf("away/%d", i%100) }, make([]byte, 2000))
	r.last()
}

func chatty(r *rig) {
	meddled(r)
	r.setup.spool = "max_size: 4MiB"
}

// chattyOffline has the broker away, and one group say far more than there is room for.
func chattyOffline(r *rig) {
	r.meddler.receiveBy(func(net.Conn) {})
	r.forge(10000, 0, one(0), anew(1000))
	r.meddler.receiveBy(nil)
}

// damageSpool overwrites pages of the files while nobody has them open.
func damageSpool(r *rig) {
	r.unplug(iso0, victimReceive)
	r.last()
	// What devices say while there is no topicast is nobody's loss.
	r.streams[neighbourReceive].rest(true)
	r.pause(prompt)
	r.stopBridge()
	r.must(damage(r.spoolDir()))
	r.startAgain()
	r.GW.PushCable(iso0)
	for _, rule := range []string{neighbourReceive, victimReceive} {
		r.awaitState(rule, "up", mostHeal)
		r.streams[rule].rest(false)
	}
}

// damage overwrites each fifth page of each file, but not the first two: where a file
// begins, its kind is judged, and that is another matter.
func damage(dir string) error {
	const page, spared = 4096, 2
	torn := make([]byte, page)
	copy(torn, "torn")
	return filepath.WalkDir(dir, func(name string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		f, err := os.OpenFile(name, os.O_RDWR, 0)
		if err != nil {
			return err
		}
		info, err := f.Stat()
		for at := int64(spared+5) * page; err == nil && at+page <= info.Size(); at += 5 * page {
			_, err = f.WriteAt(torn, at)
		}
		return errors.Join(err, f.Close())
	})
}

func removeSpool(r *rig) {
	r.awayFor(func() { r.must(removeInUse(r.spoolDir())) })
}

// removeInUse removes a folder in which somebody makes files meanwhile.
func removeInUse(dir string) (err error) {
	for range 100 {
		if err = os.RemoveAll(dir); !errors.Is(err, syscall.ENOTEMPTY) {
			break
		}
	}
	return err
}

// mountOverSpool mounts where the bridge sees it: it has a namespace of mounts for itself.
func mountOverSpool(r *rig) {
	r.awayFor(func() {
		out, err := r.GW.Command("nsenter", "--mount", "--target", strconv.Itoa(r.bridge.Process.Pid),
			"mount", "-t", "tmpfs", "-o", "size=64m", "tmpfs", r.spoolDir()).CombinedOutput()
		if err != nil {
			r.fail("mount: %v %s", err, out)
		}
	})
}

func replaceSpool(r *rig) {
	dir := r.spoolDir()
	r.awayFor(func() { r.must(errors.Join(os.Rename(dir, dir+"-away"), os.WriteFile(dir, nil, 0o600))) })
	link := r.file("link")
	r.must(errors.Join(os.Symlink(dir+"-away", link), os.Rename(link, dir)))
}

// unplug pulls the cable of an interface. What devices say to one without a carrier is
// nobody's loss, so that they say nothing from a moment before.
func (r *rig) unplug(dev, rule string) {
	r.streams[rule].rest(true)
	r.pause(100 * time.Millisecond)
	r.GW.PullCable(dev)
}

// awayFor has the victims' interface away, and something happen in the midst of it.
func (r *rig) awayFor(midst func()) {
	r.unplug(iso0, victimReceive)
	r.pause(r.times.attack / 2)
	midst()
	r.pause(r.times.attack / 2)
	r.GW.PushCable(iso0)
	r.awaitState(victimReceive, "up", mostHeal)
	r.streams[victimReceive].rest(false)
}
