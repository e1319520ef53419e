// Command attack shows what topicast does under attack.
//
//	go run ./internal/lab/attack [--only NAMES] [--quick] [--markdown | --json] [--protocol VERSION] [--parallel N] [--keep-logs DIR] [--topicast PROGRAM]
//
// It builds topicast and, for each attack, makes a network of namespaces that nothing
// else is connected to, with a real mosquitto, the real topicast, and devices:
//
//	publisher, subscriber ── mosquitto ── [meddler] ─ priv0 topicast iso0 ── devices, attacker
//	[lan 10.0.0.1]                                  [gw]    topicast iso1 ── devices
//	                                                                        [dev], [dev2]
//
// topicast has 10,000 rules and otherwise its defaults, and is in a control group with
// 128 MB of memory where the machine allows one. Four streams of numbered messages run
// through it, 50 a second each, in both directions and by both interfaces. An attack is
// aimed at some of them, its victims; the others are their neighbours. The meddler is a
// hostile broker, or whoever sits on the line: a stand-in before mosquitto that cuts,
// holds back and adds what the attack wants, in the version of MQTT that topicast speaks: 5, or
// the one that --protocol names.
//
// What it prints of each attack:
//
//	cost        what the attacker spent: datagrams or messages, bytes, connections
//	in          honest messages of the victims, from before the attack until after it; of
//	            all, where it is aimed at none of the streams
//	lost        those of them that did not arrive
//	uncounted   what went in by any rule, the attacker's included, did not come out, does
//	            not wait, and is not counted by topicast
//	neighbours  how many of the neighbours' messages arrived within a second during the
//	            attack, as part of how many did before, and of how many of a witness did
//	            that mosquitto carries past topicast; the worst of them
//	over idle   the most memory that was resident, less what was before the attack, in MB
//	lines       that topicast logged
//	heal        from the end of the attack until every stream runs and topicast is ready
//
// A row is ok if nothing is lost without a count, the neighbours carried 0.95 of what they
// did, the memory stayed within 64 MB over idle and topicast was neither killed nor ended,
// no more than 20 lines a start and one a second were logged, and all healed within 5 seconds,
// without a restart. Some attacks ask for more: that the victims carry on too, or lose
// nothing. Where an attack is on what all streams go by, such as the line to the broker,
// there are no neighbours. The exit status is 1 if a row is not ok.
//
// It needs Linux, root, Go and mosquitto.
package main
