package receive

import "topicast/bridge/account"

// takes reports whether a datagram satisfies the rule's condition, and counts it if not.
func (r *Rule) takes(payload []byte, a *arrival) bool {
	if r.When.Takes(payload, &a.Arrival, r.Name) {
		return true
	}
	r.Count(account.DropWhen, 1)
	return false
}
