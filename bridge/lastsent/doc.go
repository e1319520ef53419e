// Package lastsent remembers across restarts what was last sent for each topic of a rule.
//
// It is there for retained: once. A broker hands its retained messages out at every
// connect; one that the devices have already must not go to them again, whether
// topicast was started anew meanwhile or not.
//
// A file that says of a topic what is no longer so would hold back a message that
// the devices do not have. So an entry is taken off the file before another payload
// of its topic is given to the kernel (Store.Forget), and comes back when that
// payload was sent and the topic has rested for a moment. A topic that changes all
// the time is thus not in the file, and costs no writes. What is not in the file is
// sent once more after a restart: twice rather than not at all.
package lastsent
