package worker

import (
	"runtime"
	"runtime/debug"
)

const (
	// busyPercent keeps 2 MB less after a download than the runtime's 100, at the
	// same throughput (measured).
	busyPercent = 50
	// quietLimit is what a worker may have from the system, in bytes, before its
	// first collection: twice what it has when its tunnel is up.
	quietLimit = 12 << 20
)

// collector says when the runtime collects garbage. A worker whose client does
// little makes hardly any, and a collection costs it more than it frees: 0.8 MB of
// the runtime's tables are written to (measured), and without being asked the
// runtime collects every two minutes. So main starts workers with collections
// switched off, and the first one comes at quietLimit. That it came says that
// there is traffic: from then on there is one for each half that the heap has
// grown, until the session has been idle and its memory is given back.
type collector struct {
	limit int64 // of the heap while busy, in bytes
}

// quiet begins to wait for traffic again.
func (c *collector) quiet() {
	debug.SetMemoryLimit(quietLimit)
	debug.SetGCPercent(-1)
	first := &struct{ c *collector }{c}
	runtime.AddCleanup(first, func(c *collector) { c.busy() }, c) // after the collection that finds it
}

func (c *collector) busy() {
	debug.SetGCPercent(busyPercent)
	debug.SetMemoryLimit(c.limit)
}

// trim gives back what the heap no longer needs, unless that is too little to be
// worth a collection.
func (c *collector) trim() {
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	if m.HeapSys-m.HeapReleased > 3<<20 {
		runtime.GC() // pools give up what they hold in two steps
		debug.FreeOSMemory()
		c.quiet()
	}
}
