//go:build goexperiment.runtimesecret

package keys

import "runtime/secret"

func do(f func()) { secret.Do(f) }
