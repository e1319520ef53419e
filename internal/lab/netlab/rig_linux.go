package netlab

// A Rig is a gateway between an isolated network and a private one:
//
//	          172.17.0.1/16 fd17::1  iso0 ───── eth0  172.17.0.50/16 fd17::50  [dev]
//	[gw]
//	          10.0.0.2/24   fd10::2  priv0 ──── eth0  10.0.0.1/24    fd10::1   [lan]
//	          default by 10.0.0.1 and fd10::1
//
// A program on the gateway that does not say from where it sends will use the
// default route's address.
type Rig struct {
	*Lab
	GW, Dev, Lan *Host
}

// NewRig returns the rig; see [New].
func NewRig(t T) *Rig {
	t.Helper()
	return New(t).Rig()
}

// Rig adds the three hosts of a [Rig] to the lab.
func (l *Lab) Rig() *Rig {
	l.t.Helper()
	r := &Rig{Lab: l, GW: l.Host("gw"), Dev: l.Host("dev"), Lan: l.Host("lan")}
	l.Link(r.GW, "iso0", r.Dev, "eth0")
	l.Link(r.GW, "priv0", r.Lan, "eth0")
	for _, a := range []struct {
		host   *Host
		dev    string
		v4, v6 string
	}{
		{r.GW, "iso0", "172.17.0.1/16", "fd17::1/64"},
		{r.GW, "priv0", "10.0.0.2/24", "fd10::2/64"},
		{r.Dev, "eth0", "172.17.0.50/16", "fd17::50/64"},
		{r.Lan, "eth0", "10.0.0.1/24", "fd10::1/64"},
	} {
		a.host.Addr(a.dev, a.v4)
		a.host.Addr(a.dev, a.v6)
	}
	r.GW.Route("default", "10.0.0.1")
	r.GW.Route("default", "fd10::1")
	return r
}
