package snapshot

import (
	"slices"
	"strings"
)

// keepAway finds the domains that the pod may not enter: some pod there keeps it away, or it keeps away from some pod
// there.
func (a *ask) keepAway() {
	a.c.terms.about(&a.pod.tenant, func(t *term, rows map[int32]int32) {
		if t.means(&a.pod.tenant, a.spaces()) {
			for row := range rows {
				a.block(int(row), t)
			}
		}
	})
	if a.c.apart > 0 {
		a.c.eachTenant(func(node int, other *tenant) {
			for i := range other.apart {
				if other.apart[i].means(&a.pod.tenant, a.spaces()) {
					a.block(node, &other.apart[i])
				}
			}
		})
	}
	for i := range a.pod.apart {
		t := &a.pod.apart[i]
		a.each(t.id, func(other *tenant) bool { return t.asked(other, a.spaces(), a.c.Version) }, func(node, _ int) { a.block(node, t) })
	}
}

// block closes the domain that a node is in.
func (a *ask) block(node int, t *term) {
	topology := a.c.topology(t.key)
	if topology.of[node] == outside {
		return
	}
	at := slices.IndexFunc(a.blocked, func(d domains) bool { return d.topology == topology })
	if at < 0 {
		at = len(a.blocked)
		a.blocked = append(a.blocked, newDomains(topology))
	}
	a.blocked[at].count[topology.of[node]]++
}

// comeNear finds the domains that have pods which the pod wants to be near to. Those must match all of its terms.
func (a *ask) comeNear() {
	if len(a.pod.near) == 0 {
		return
	}
	spaces := a.spaces()
	means := func(other *tenant) bool {
		return !slices.ContainsFunc(a.pod.near, func(t term) bool { return !t.asked(other, spaces, a.c.Version) })
	}
	for i := range a.pod.near {
		a.near = append(a.near, newDomains(a.c.topology(a.pod.near[i].key)))
	}
	company := false
	a.each(nearID(a.pod.near), means, func(node, count int) {
		for _, d := range a.near {
			if domain := d.of[node]; domain != outside {
				d.count[domain] += count
				company = true
			}
		}
	})
	a.starts = !company && means(&a.pod.tenant)
}

// nearID names the pods that all of the terms mean; "" where that has no name.
func nearID(terms []term) string {
	ids := []string{"near"}
	for i := range terms {
		if terms[i].id == "" {
			return ""
		}
		ids = append(ids, terms[i].id)
	}
	return strings.Join(ids, " & ")
}

// inCompany is InterPodAffinity's filter.
func (a *ask) inCompany(node int) bool {
	together := true
	for _, d := range a.near {
		domain := d.of[node]
		if domain == outside {
			return false
		}
		together = together && d.count[domain] > 0
	}
	if !together && !a.starts {
		return false
	}
	for _, d := range a.blocked {
		if domain := d.of[node]; domain != outside && d.count[domain] > 0 {
			return false
		}
	}
	return true
}
