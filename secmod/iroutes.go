package secmod

import (
	"fmt"
	"net/netip"
	"os"
	"slices"

	"rocserv/internal/config"
)

// maxExposed bounds the networks behind users that others get routes to; clients
// of AnyConnect apply fewer anyway.
const maxExposed = 1024

// exposed are the networks that users' files say are behind their clients
// (expose-iroutes). As in ocserv they are read with the configuration. A file
// that cannot be read costs its own networks; its user's session says why.
func (l *loader) exposed(v *config.Vhost) (list []netip.Prefix) {
	if !v.ExposeIRoutes || v.ConfigPerUser == "" {
		return nil
	}
	entries, err := os.ReadDir(v.ConfigPerUser)
	if err != nil {
		l.warn(v, "expose-iroutes", 0, "expose-iroutes: "+err.Error())
		return nil
	}
	for _, e := range entries {
		if !e.Type().IsRegular() || !config.SafeFileName(e.Name()) {
			continue
		}
		b, err := readIn(v.ConfigPerUser, e.Name())
		if err != nil {
			l.warn(v, "expose-iroutes", 0, "expose-iroutes: "+err.Error())
			continue
		}
		u, _, err := config.ParseUserFile(e.Name(), b, v.User)
		if err != nil {
			l.warn(v, "expose-iroutes", 0, "expose-iroutes: "+err.Error())
			continue
		}
		for _, r := range u.IRoutes {
			if !slices.Contains(list, r) {
				list = append(list, r)
			}
		}
		if len(list) > maxExposed {
			l.warn(v, "expose-iroutes", 0, fmt.Sprintf("expose-iroutes: only %d networks are exposed", maxExposed))
			return list[:maxExposed]
		}
	}
	return list
}

// expose adds the networks behind others to the routes of a user that reaches
// them (client-to-client). One without routes has all traffic in the tunnel already.
func (v *vhost) expose(u *config.User) {
	if !u.ClientToClient || len(u.Routes) == 0 {
		return
	}
	routes := slices.Clone(u.Routes)
	for _, r := range v.exposed {
		if !slices.Contains(routes, r) && !slices.Contains(u.IRoutes, r) {
			routes = append(routes, r)
		}
	}
	u.Routes = routes
}
