package multicast

// Change is what became known of the interfaces since the call of Watch's function
// before. Of two changes in a row nothing is lost if the lists are joined and
// Routes and
// Overflow are or-ed. A change with nothing in it is one too: of an address, say.
type Change struct {
	// Deleted are the indexes of interfaces that were deleted. An index may belong
	// to a new interface already, on which nothing is joined: what was joined on
	// the old one is to be closed, and only then joined anew. Nothing else tells;
	// a receiver just hears no more.
	Deleted []int

	// Returned are the indexes of interfaces that work again after they were down
	// or without carrier, however shortly. See Receiver.Rejoin.
	Returned []int

	// Routes: a route for groups came or went, or a rule of policy routing did.
	Routes bool

	// Overflow: changes were missed. Deleted and Returned have what can be told from how the
	// interfaces were and are; but any may have been deleted and made anew with its index
	// meanwhile. Whether that is so shows in what is still joined on it (ReadJoins): whoever
	// can have addresses and routes come and go, as any host can that sends IPv6's router
	// advertisements, has changes missed, and must not have all groups left.
	Overflow bool
}

// link is what Watch remembers of an interface.
type link struct {
	works bool   // up and with carrier
	ups   uint32 // how often it has got its carrier, where the system counts that
}

// links is what Watch knows, by index.
type links map[int]link

// see notes what an interface is like now, and in c if it has returned.
//
// News may be older than what is known, from a look after them: the count never
// goes back for as long as an interface lives, and a carrier that came back must
// not count twice.
func (ls links) see(index int, now link, c *Change) {
	was, known := ls[index]
	if known && now.works && (!was.works || now.ups > was.ups) {
		c.Returned = append(c.Returned, index)
	}
	now.ups = max(now.ups, was.ups)
	ls[index] = now
}

// lose notes that an interface was deleted.
func (ls links) lose(index int, c *Change) {
	delete(ls, index)
	c.Deleted = append(c.Deleted, index)
}
