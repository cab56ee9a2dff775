package main

import (
	"rocserv/secmod/helper"
)

// methods are the ways to log in that a helper's process plays.
var methods = helper.Table{}
