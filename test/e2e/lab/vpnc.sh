#!/bin/sh
# What openconnect runs, as root in the client's namespace, when the tunnel
# comes, goes, or is made anew. It configures the device; if all went well, it
# leaves its environment, NUL separated, in $LAB_DIR/env.REASON.
#
# LAB_METRIC is for many tunnels in one namespace: their routes differ in it.
# LAB_NARROW is for a client on the server's own host: only the network of its
# address goes through the tunnel.
set -eu
env -0 >"$LAB_DIR/new"

route() { # 4|6 what
	ip "-$1" route add "$2" dev "$TUNDEV" ${LAB_METRIC:+metric "$LAB_METRIC"}
}
except() {
	ip "-$1" route replace prohibit "$2"
}
# each 4|6 PREFIX COMMAND: COMMAND for each of the routes PREFIX_0, PREFIX_1, …
each() {
	eval "n=\${$2:-0}"
	i=0
	while [ "$i" -lt "$n" ]; do
		eval "\"$3\" \"$1\" \"\${$2_${i}_ADDR}/\${$2_${i}_MASKLEN}\""
		i=$((i + 1))
	done
}
configure() {
	ip link set dev "$TUNDEV" mtu "$INTERNAL_IP4_MTU" up
	if [ -n "${INTERNAL_IP4_ADDRESS:-}" ]; then
		ip addr add "$INTERNAL_IP4_ADDRESS/32" dev "$TUNDEV"
		if [ -n "${LAB_NARROW:-}" ]; then
			route 4 "$INTERNAL_IP4_NETADDR/$INTERNAL_IP4_NETMASKLEN"
			return
		fi
		if [ "${CISCO_SPLIT_INC:-0}" = 0 ]; then route 4 default; fi
		each 4 CISCO_SPLIT_INC route
		each 4 CISCO_SPLIT_EXC except
	fi
	if [ -n "${INTERNAL_IP6_NETMASK:-}" ]; then
		ip addr add "${INTERNAL_IP6_NETMASK%/*}/128" dev "$TUNDEV"
		if [ "${CISCO_IPV6_SPLIT_INC:-0}" = 0 ]; then route 6 default; fi
		each 6 CISCO_IPV6_SPLIT_INC route
		each 6 CISCO_IPV6_SPLIT_EXC except
	fi
}
if [ "$reason" = connect ]; then configure; fi
mv "$LAB_DIR/new" "$LAB_DIR/env.$reason"
