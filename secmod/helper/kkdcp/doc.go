// Package kkdcp is the proxy of `kkdcp = "PATH REALM tcp|udp@HOST:PORT"`: Kerberos
// for clients that cannot reach a KDC but the VPN server (MS-KKDCP). It lets nobody
// in; what a client gets by it, it may show to the method gssapi.
//
// # Theory of operation
//
// What a client posts comes by its worker and sec-mod as it is. It is a
// KDC-PROXY-MESSAGE (message.go): a realm, and what would be sent to a KDC of it.
// The KDCs of that realm are asked in the order of their lines, those that failed
// lately after the others, until one answers (proxy.go, kdc.go). By UDP a request
// is sent again while there is no answer, and asked again by TCP when the KDC says
// that the answer is too long. The answer goes back in the same form.
//
// # Security
//
// The realm chooses among the KDCs of the path; no client names an address. What is
// passed on is one AS-REQ or TGS-REQ, of its whole length, and what comes back one
// AS-REP, TGS-REP or KRB-ERROR: this is no way to say anything else to a KDC's port.
// Both have a bound, as has the time. How many requests there may be at a time, and
// from whom, sec-mod says (secmod/kdc.go).
//
// The process is not that of gssapi: it reads what strangers send before any login,
// and has no key.
//
// # Standards
//
// MS-KKDCP, RFC 4120 sections 5.4, 5.9 and 7.2.
package kkdcp
