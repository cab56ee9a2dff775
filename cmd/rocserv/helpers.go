package main

import (
	"rocserv/secmod/helper"
	"rocserv/secmod/helper/gssapi"
	"rocserv/secmod/helper/ldap"
	"rocserv/secmod/helper/radius"
)

// methods are the ways to log in that a helper's process plays.
var methods = helper.Table{
	"gssapi": gssapi.Make,
	"ldap":   ldap.Make,
	"radius": radius.Make,
}
