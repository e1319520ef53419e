//go:build linux

package main

import (
	"bytes"
	"fmt"
	"os"
	"time"
)

// What a host does to it that is short of something, or an administrator in a hurry.
var hostAttacks = []attack{
	{name: "files-64", about: "a limit of 64 descriptors, until it is raised by a restart", victims: allStreams, hostile: true, prepare: fewFiles(64, ""), run: raiseFiles},
	{name: "files-1024", about: "a limit of 1,024 descriptors with 4,000 groups, until it is raised by a restart", victims: allStreams, hostile: true, prepare: fewFiles(1024, "239.60.0.0-239.60.15.159:6000"), run: raiseFiles},
	{name: "config-two-parts", about: "the configuration written in place, in two parts 1.5 s apart", victims: allStreams, leastVictims: leastCarried, lossless: true, run: configInTwoParts},
	{name: "config-storm", about: "the configuration replaced 20 times a second", victims: allStreams, leastVictims: leastCarried, lossless: true, run: configStorm},
}

func fewFiles(n int, groups string) func(*rig) {
	return func(r *rig) {
		r.setup.files = n
		if groups != "" {
			r.setup.receive = append(r.setup.receive, "name: many, group: '"+groups+"', interface: iso0, topic: 'm/{group}'")
			r.GW.ManyMemberships()
		}
	}
}

// raiseFiles lets it run short of descriptors, and raises the limit as an operator does:
// in the unit, which takes a restart. Its page has to answer before.
func raiseFiles(r *rig) {
	for _, s := range r.streams {
		s.forget()
	}
	r.pause(2 * r.times.attack)
	for _, s := range r.streams {
		s.rest(true)
	}
	r.pause(prompt)
	r.stopBridge()
	for _, s := range r.streams {
		s.forget()
	}
	r.setup.files = 0
	r.startAgain()
	r.until(r.times.heal, func() bool { return r.whole() == nil })
	for _, s := range r.streams {
		s.rest(false)
	}
}

// configInTwoParts writes as an editor does that knows no rename.
func configInTwoParts(r *rig) {
	whole := []byte(r.config())
	// What there is of the rules between is no longer a file without faults, nor one with
	// fewer rules: half of a list is a list.
	half := bytes.LastIndexByte(whole[:len(whole)*2/3], '\n') + 1
	f, err := os.OpenFile(r.file("topicast.yaml"), os.O_WRONLY|os.O_TRUNC, 0)
	if err != nil {
		r.must(err)
		return
	}
	defer f.Close()
	_, err = f.Write(whole[:half])
	r.must(err)
	r.pause(1500 * time.Millisecond)
	_, err = f.Write(whole[half:])
	r.must(err)
	r.spend(cost{Bytes: len(whole)})
	r.last()
}

func configStorm(r *rig) {
	whole := r.config()
	r.pace(20, 0, func(i int) error {
		name := r.file("next.yaml")
		if err := os.WriteFile(name, fmt.Appendf(nil, "%s# %d\n", whole, i), 0o600); err != nil {
			return err
		}
		r.spend(cost{Bytes: len(whole)})
		return os.Rename(name, r.file("topicast.yaml"))
	})
}
