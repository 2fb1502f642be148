package lab

import (
	"net/netip"
	"strings"
	"testing"
)

// The numbers of clusters, of their pods and of their Services never overlap.
func TestNetworksDoNotOverlap(t *testing.T) {
	var all []netip.Prefix
	for k := range mostNetworks + 1 {
		all = append(all, netip.PrefixFrom(address(k), 32), podNetwork(k), serviceNetwork(k))
	}
	for i, a := range all {
		for _, b := range all[:i] {
			if a.Overlaps(b) {
				t.Errorf("%s and %s overlap", a, b)
			}
		}
	}
}

func TestPlace(t *testing.T) {
	for networks, want := range map[Networks]string{Flat: "10.98.0.0/16 10.199.1.0/24", Isolated: "10.98.0.0/16"} {
		o := Options{Lower: 2, Networks: networks}
		if err := o.validate(); err != nil {
			t.Fatal(err)
		}
		var routes []string
		for _, r := range o.place(2).Routes {
			routes = append(routes, r.To.String())
		}
		if got := strings.Join(routes, " "); got != want || o.place(2).Isolated != (networks == Isolated) || o.RealNodes != 2 {
			t.Errorf("%s: routes %s, want %s; %+v", networks, got, want, o.place(2))
		}
	}
}
