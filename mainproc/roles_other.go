//go:build !amd64 || amd64.v2

package mainproc

// without: nothing (roles_amd64.go).
var without []string
